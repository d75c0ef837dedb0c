"""Data sets: where their images and classes lie, and reading them."""
