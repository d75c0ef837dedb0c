"""vgg-doctor: shows what works on this machine."""
