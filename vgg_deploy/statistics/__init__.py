"""Exact tests, bounds and verdicts of losses and shares, of numbers alone."""
