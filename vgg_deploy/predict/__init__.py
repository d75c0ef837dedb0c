"""Gives images to a net and returns classes: the part of the Python interface that needs no tables."""
