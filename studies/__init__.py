"""Experiments with langbridge. They use it as anybody would, and are no part of the package."""
