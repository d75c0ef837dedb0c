"""The shared core of VGG Deploy: the nets of arXiv 1409.1556, their data and how they are run."""

import os

# ONNX Runtime would write a device id and a queue of events under the user's home and send them. It
# reads this when it is imported, which no module of ours does before this line.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
