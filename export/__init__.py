"""Turns checkpoints into checked, self-describing ONNX files."""
