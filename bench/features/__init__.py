"""vgg-features: images in, a folder of descriptors out."""
