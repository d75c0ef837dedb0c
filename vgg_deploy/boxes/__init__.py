"""Boxes of objects: geometry, what a net says of them, merging, and errors (appendix A)."""
