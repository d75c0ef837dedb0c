"""Statistical tests, bounds and intervals, of numbers alone."""
