"""Tests, bounds and intervals. Numbers only; no models, no files."""
