"""The folder of features: a net's descriptors of many images, in shards, with their images."""
