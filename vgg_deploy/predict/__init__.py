"""Gives images to a net and returns classes."""
