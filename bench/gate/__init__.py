"""Limits of a CI build, and the verdict on them."""
