"""Descriptors of images, computed naively.

Pillow, torchvision's VGG layers one by one, its fully connected layers window by window, plain sums
in float64.
"""

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.models.vgg import make_layers

from vgg_deploy.net.archs import ARCHS


class NaiveDescriptors:
    """A net of 3x3 convolutions alone (A, B, D, E) in torchvision's layers, and its descriptors."""

    def __init__(self, net):
        spec, state = net.spec, {name: t.double() for name, t in net.state_dict().items()}
        self.mean, self.crop = np.array(spec.preprocessing.mean), spec.crop
        self.resampling = Image.Resampling[spec.preprocessing.filter.upper()]
        cfg, self.names = [], []
        for s, kernels in enumerate(ARCHS[spec.arch].kernels, start=1):
            assert set(kernels) == {3}
            for i in range(1, len(kernels) + 1):
                cfg.append(len(state[f"conv{s}_{i}.bias"]))
                self.names += [f"conv{s}_{i}", f"relu{s}_{i}"]
            cfg.append("M")
            self.names.append(f"pool{s}")
        self.layers = make_layers(cfg).double().eval()
        for name, layer in zip(self.names, self.layers, strict=True):
            if name.startswith("conv"):
                layer.weight.data = state[f"{name}.weight"]
                layer.bias.data = state[f"{name}.bias"]
        self.linear = {}
        for n in (6, 7, 8):
            weight = state[f"fc{n}.weight"].flatten(1)
            self.linear[n] = nn.Linear(*weight.shape[::-1]).double()
            self.linear[n].weight.data, self.linear[n].bias.data = weight, state[f"fc{n}.bias"]

    def resized(self, path, side):
        """Pillow's own resize, to a shorter side."""
        image = Image.open(path).convert("RGB")
        w, h = image.size
        longer = (2 * max(w, h) * side + min(w, h)) // (2 * min(w, h))
        return image.resize((side, longer) if w <= h else (longer, side), self.resampling)

    @torch.inference_mode()
    def map_of(self, image, wanted):
        """A layer's output for a Pillow image, (C, h, w) float64."""
        pixels = (np.asarray(image).astype(float) - self.mean).transpose(2, 0, 1)
        values = torch.from_numpy(pixels.copy())[None]
        for name, layer in zip(self.names, self.layers, strict=True):
            values = layer(values)
            if name == wanted:
                return values[0].numpy()
        pool5, side = values[0], self.crop // 32
        _, h, w = pool5.shape
        windows = {
            (y, x): pool5[:, y : y + side, x : x + side].flatten()
            for y in range(h - side + 1)
            for x in range(w - side + 1)
        }
        for n in (6, 7, 8):
            windows = {at: self.linear[n](values) for at, values in windows.items()}
            if wanted != f"fc{n}":
                windows = {at: values.relu() for at, values in windows.items()}
            if wanted in (f"fc{n}", f"relu{n}"):
                break
        found = torch.stack(list(windows.values()), dim=1)
        return found.reshape(-1, h - side + 1, w - side + 1).numpy()

    def one_scale(self, path, layer, side, flips):
        """The average over positions, and over the image and its mirror image."""
        image = self.resized(path, side)
        views = [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)] if flips else [image]
        means = []
        for view in views:
            values = self.map_of(view, layer)
            means.append(np.array([sum(plane.ravel().tolist()) / plane.size for plane in values]))
        return sum(means) / len(means)

    def descriptor(self, path, layer, sides, flips=True, stack=False, l2=False):
        """(d,) float64."""
        scales = [self.one_scale(path, layer, side, flips) for side in sides]
        joined = np.concatenate(scales) if stack else sum(scales) / len(scales)
        norm = sum(value * value for value in joined.tolist()) ** 0.5
        return joined / norm if l2 and norm else joined
