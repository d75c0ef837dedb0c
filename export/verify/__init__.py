"""Checks that a file passes before it gets its name."""
