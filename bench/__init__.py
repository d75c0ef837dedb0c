"""Measures accuracy and latency of checkpoints and exported models."""
