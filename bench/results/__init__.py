"""The folder of results of one run."""
