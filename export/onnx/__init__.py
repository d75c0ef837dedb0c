"""A net as an ONNX file."""
