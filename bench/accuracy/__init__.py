"""Posteriors of images, and the rows of the accuracy table."""
