"""Boxes that nets state of images, and the rows of the localisation table (appendix A)."""
