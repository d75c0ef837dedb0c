"""vgg-predict: images in, classes out."""
