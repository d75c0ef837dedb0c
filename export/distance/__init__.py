"""A distance of two images as one ONNX graph."""
