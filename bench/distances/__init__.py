"""Files that give the distance of two images, measured on distorted photos."""
