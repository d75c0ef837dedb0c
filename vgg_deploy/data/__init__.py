"""Data sets: listing, opening, packing and decoding them."""
