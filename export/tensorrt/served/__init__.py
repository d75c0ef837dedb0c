"""Holds what runs inside a Triton server: sources that are copied into a model repository.

A server has no vgg_deploy. So `copies.py` writes these modules, and those of the core that they
import, beside each other into the model's folder.
"""
