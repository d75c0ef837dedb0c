"""From an image file to pixels and crops."""
