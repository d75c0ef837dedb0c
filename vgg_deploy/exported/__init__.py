"""Reads exported files and what they state about themselves."""
