"""Asking a model: one engine under every command that generates or scores."""
