"""The protocols of the paper, evaluated naively: view by view, in float64."""

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional as tv

CROP = 32


class Naive:
    """The protocols of section 3 step by step.

    Pillow, explicit crops, explicit softmax, the net in float64.
    """

    def __init__(self, net):
        self.net, self.filter = net.double(), net.spec.preprocessing.filter
        self.mean = np.array(net.spec.preprocessing.mean)
        self.passes: set = set()

    def resized(self, path, side):
        image = Image.open(path).convert("RGB")
        w, h = image.size
        longer = (2 * max(w, h) * side + min(w, h)) // (2 * min(w, h))
        return image.resize((side, longer) if w <= h else (longer, side), self.resampling)

    @property
    def resampling(self):
        return Image.Resampling[self.filter.upper()]

    def logits(self, view, mirrored):
        """Score map, (classes, h, w)."""
        if mirrored:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.asarray(view).astype(float) - self.mean
        with torch.inference_mode():
            return self.net(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])[0].numpy()

    @staticmethod
    def softmax(scores):
        return np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()

    def views(self, path, side, view_set, mirrored):
        """Posterior of one view set at one Q."""
        image = self.resized(path, side)
        if view_set == "dense":
            score_map = self.logits(image, mirrored)
            return self.softmax(np.array([sum(s.ravel()) / s.size for s in score_map]))
        if view_set == "dense-softmax-first":
            score_map = self.logits(image, mirrored)
            positions = score_map.reshape(len(score_map), -1).T
            return sum(self.softmax(scores) for scores in positions) / len(positions)
        crops = self.crops(image, side, view_set)
        posteriors = [self.softmax(self.logits(crop, mirrored).ravel()) for crop in crops]
        self.passes |= {(path, side, mirrored, crop.tobytes()) for crop in crops}
        return sum(posteriors) / len(posteriors)

    def crops(self, image, side, view_set):
        """The views of an image that is rescaled to Q."""
        w, h = image.size
        crops = []
        if view_set == "multicrop":
            for i in range(5):
                for j in range(5):
                    y, x = round(i * (h - CROP) / 4), round(j * (w - CROP) / 4)
                    crops.append(image.crop((x, y, x + CROP, y + CROP)))
        elif view_set == "centre":
            crops = [tv.center_crop(image, CROP)]
        elif view_set == "ten":
            crops = list(tv.five_crop(image, CROP))
        elif view_set == "googlenet":
            for x, y in [(0, 0), self.middle(w, h, side), (w - side, h - side)]:
                square = image.crop((x, y, x + side, y + side))
                crops += [*tv.five_crop(square, CROP), square.resize((CROP, CROP), self.resampling)]
        return crops

    @staticmethod
    def middle(w, h, side):
        return (round((w - side) / 2), 0) if w > h else (0, round((h - side) / 2))

    def protocol(self, path, name, sides, flips):
        """Posterior of a protocol: the mean over view sets of the means over scales."""
        means = []
        for part in name.split("+"):
            per_scale = []
            for side in sides:
                turns = (False, True) if flips else (False,)
                both = [self.views(path, side, part, mirrored) for mirrored in turns]
                per_scale.append(sum(both) / len(both))
            means.append(sum(per_scale) / len(per_scale))
        return sum(means) / len(means)
