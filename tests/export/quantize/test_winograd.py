"""Winograd convolutions against PyTorch's direct ones in float64."""

import pytest
import torch
from torch.nn.functional import conv2d

from export.quantize import winograd
from export.quantize.winograd import convolve_fast

LARGEST_ERROR = 5e-5  # of the largest output


@pytest.mark.parametrize(
    ("images", "outputs", "kernel", "padding"),
    [
        ((2, 3, 64, 80), 16, 3, 1),
        ((1, 64, 53, 61), 64, 3, 1),
        ((1, 16, 15, 17), 8, 3, 1),  # too small for it
        ((1, 16, 20, 17), 8, 1, 0),  # not 3x3
        ((1, 512, 20, 17), 512, 3, 1),  # kernels in several parts
    ],
)
@pytest.mark.parametrize("workspace", [winograd.WORKSPACE, 2**20])
def test_convolutions_are_as_direct_ones(images, outputs, kernel, padding, workspace, monkeypatch):
    """With a small workspace: in bands of rows, and some output channels at a time."""
    monkeypatch.setattr(winograd, "WORKSPACE", max(workspace, 2 * images[1] * 256))
    torch.manual_seed(0)
    values = torch.rand(images) - 0.3
    weight, bias = torch.randn(outputs, images[1], kernel, kernel), torch.randn(outputs)
    found = convolve_fast(values, weight, bias, (padding, padding))
    expected = conv2d(values.double(), weight.double(), bias.double(), padding=padding)
    assert found.shape == expected.shape
    difference = float((found - expected).abs().max())
    assert difference <= LARGEST_ERROR * float(expected.abs().max())


def test_without_nnpack_it_is_computed_directly(monkeypatch):
    monkeypatch.setattr(winograd, "_has_nnpack", lambda: False)
    torch.manual_seed(0)
    values, weight, bias = torch.randn(1, 4, 40, 40), torch.randn(6, 4, 3, 3), torch.randn(6)
    expected = conv2d(values, weight, bias, padding=1)
    torch.testing.assert_close(convolve_fast(values, weight, bias, (1, 1)), expected)
