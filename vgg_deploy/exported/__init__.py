"""The files that vgg-export writes, as every tool reads them."""
