"""Suffixes of weight files; by them a file's kind is known before anything heavy is imported."""

from vgg_deploy.net.torch_files import TORCH_SUFFIXES

SAFETENSORS, NPZ = ".safetensors", ".npz"
WEIGHTS_SUFFIXES = (SAFETENSORS, NPZ, *TORCH_SUFFIXES)
