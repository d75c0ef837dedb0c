"""The shared core of VGG Deploy: the nets of arXiv 1409.1556, their data and how they are run."""

__version__ = "0.1.0"
