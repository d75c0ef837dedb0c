"""Finds the layers that stay in float so that a quantized file loses at most a limit."""
