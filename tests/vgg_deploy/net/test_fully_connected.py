"""The matrix products give what the convolution gives."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from vgg_deploy.net.fully_connected import convolve, fc_at_crop_size, fc_channels_last


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Conv2d(5, 11, 3).requires_grad_(False)


def exact(layer: nn.Conv2d, maps: torch.Tensor, padding: int = 0) -> torch.Tensor:
    """Oracle: PyTorch's convolution in float64."""
    weight, bias = layer.weight.double(), layer.bias.double()
    return conv2d(maps.double(), weight, bias, padding=padding).float()


def test_a_layer_as_large_as_its_input_is_one_product(layer):
    maps = torch.randn(4, 5, 3, 3)
    scores = fc_at_crop_size(layer, maps.flatten(1))
    torch.testing.assert_close(scores, exact(layer, maps).flatten(1))


@pytest.mark.parametrize("count, height, width", [(1, 3, 3), (3, 5, 8), (2, 20, 30)])
def test_a_layer_slides_over_a_larger_map(layer, count, height, width):
    maps = torch.randn(count, 5, height, width).to(memory_format=torch.channels_last)
    torch.testing.assert_close(fc_channels_last(layer, maps), exact(layer, maps))


@pytest.mark.parametrize("padding", [0, 1, (0, 0), (1, 1)])
def test_a_convolution_with_and_without_padding(layer, padding):
    images = torch.randn(2, 5, 7, 9)
    one = padding if isinstance(padding, int) else padding[0]
    found = convolve(images, layer.weight, layer.bias, padding)
    torch.testing.assert_close(found, exact(layer, images, one))
