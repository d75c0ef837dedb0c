"""Runs over time: error, speed, size and memory of the results of many runs."""
