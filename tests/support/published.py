"""Weights as their projects publish them, from a server on this machine."""

import contextlib
import hashlib
import http.server
import json
import threading
from functools import partial
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models._api import BUILTIN_MODELS, Weights, WeightsEnum, register_model
from torchvision.transforms._presets import ImageClassification

from tests.support.foreign import HIDDEN, randomise, thin_cfg

CATEGORIES = torchvision.models.VGG16_Weights.IMAGENET1K_V1.meta["categories"]
HALF = (0.5, 0.5, 0.5)


def imagenet_net() -> nn.Module:
    """A thin A with a score for each class of ILSVRC."""
    net = torchvision.models.VGG(
        torchvision.models.vgg.make_layers(thin_cfg("A")), num_classes=10, init_weights=False
    )
    layers = (nn.Linear(32 * 49, HIDDEN), nn.ReLU(), nn.Dropout(), nn.Linear(HIDDEN, HIDDEN))
    net.classifier = nn.Sequential(*layers, nn.ReLU(), nn.Dropout(), nn.Linear(HIDDEN, 1000))
    return randomise(net, 5)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and Hugging Face's headers for what lies in OWNER/NAME/resolve/main/."""

    cut = 0  # bytes that a response lacks

    def log_message(self, *args):
        pass

    def send_head(self):
        path = Path(self.translate_path(self.path.replace("/resolve/main/", "/")))
        if not path.is_file():
            if "/resolve/" in self.path:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("X-Repo-Commit", "1" * 40)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            return super().send_head()
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "1" * 40)
        self.end_headers()
        if self.command == "GET":
            self.server.served.append(self.path)
            self.wfile.write(content[: len(content) - self.server.cut])
        return None

    def do_GET(self):
        self.send_head()


@contextlib.contextmanager
def local_server(folder: Path):
    """A web server on this machine, with the files of a folder; `served` lists what was read."""
    folder.mkdir()
    made = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(folder))
    )
    made.daemon_threads = False  # so that closing waits for the last answer
    made.folder, made.served, made.cut = folder, [], 0
    made.address = f"http://127.0.0.1:{made.server_address[1]}"
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def save_with_digest(state, folder, stem):
    """Save a state dict under torchvision's kind of name."""
    plain = folder / f"{stem}.pth"
    torch.save(state, plain)
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    return plain.rename(folder / f"{stem}-{digest[:8]}.pth")


@contextlib.contextmanager
def published(url, features, categories=CATEGORIES, mean=HALF):
    """Register a net with torchvision as it registers its own, while the block runs."""
    transforms = partial(ImageClassification, crop_size=224, mean=mean, std=HALF)
    meta = {"categories": categories} if categories else {}

    class VGGThin_Weights(WeightsEnum):
        IMAGENET1K_V1 = Weights(url, transforms, meta)
        IMAGENET1K_FEATURES = Weights(features, transforms, {})
        DEFAULT = IMAGENET1K_V1

    def vgg_thin(*, weights: VGGThin_Weights | None = None) -> nn.Module:
        raise AssertionError("only the weights are wanted")

    register_model("vgg_thin")(vgg_thin)
    try:
        yield
    finally:
        del BUILTIN_MODELS["vgg_thin"]


CONFIG = {
    "architecture": "vgg11",
    "num_classes": 1000,
    "pretrained_cfg": {"tag": "tv_in1k", "mean": HALF, "std": HALF, "num_classes": 1000},
}


def timm_folder(folder, net, config=CONFIG):
    """A folder as timm's save_for_hf writes it."""
    folder.mkdir(parents=True)
    save_file(net.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder
