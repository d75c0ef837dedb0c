"""Decodes image files, rescales them and cuts crops out of them."""
