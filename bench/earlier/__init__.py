"""An earlier run: its folder of results, and what this run measures beside it."""
