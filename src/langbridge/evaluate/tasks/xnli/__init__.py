"""XNLI and AfriXNLI: whether one sentence follows from another."""
