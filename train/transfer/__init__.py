"""Transfer to other data sets by linear SVMs on a net's descriptors (appendix B)."""
