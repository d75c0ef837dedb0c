"""Changes to a VGG that leave its scores as they are and may run faster on a GPU.

Each function changes a net in place and keeps the names of its weights. They are candidates: the
benchmarks time them beside the net as it is, and compare what comes out.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, pad

from vgg_deploy.net.model import VGG

PADDED_CHANNELS = 8  # of the input: a vector load of 16 bytes in half precision


def pool_first(net: VGG) -> VGG:
    """Pool before adding the bias and the ReLU that end a stage: a quarter of the values is left.

    Neither changes which value of a window is the largest, in any precision.
    """
    names = [name for name, _ in net.named_children()]
    for conv, relu, pool in zip(names, names[1:], names[2:], strict=False):
        if conv.startswith("conv") and relu.startswith("relu") and pool.startswith("pool"):
            layer = net.get_submodule(conv)
            setattr(net, pool, _PoolBiasReLU(net.get_submodule(pool), layer.bias))
            setattr(net, relu, nn.Identity())
            layer.bias = None
    return net


def padded_input(net: VGG) -> VGG:
    """Give the first convolution PADDED_CHANNELS input channels; the added ones are zero."""
    net.conv1_1 = _like(net.conv1_1, _PaddedConv)
    return net


def fused_relu(net: VGG) -> VGG:
    """Compute convolution, bias and ReLU of the trunk in one kernel of cuDNN."""
    names = [name for name, _ in net.named_children()]
    for name, after in zip(names, names[1:], strict=False):
        if name.startswith("conv") and isinstance(net.get_submodule(after), nn.ReLU):
            setattr(net, name, _like(net.get_submodule(name), _ConvReLU))
            setattr(net, after, nn.Identity())
    return net


def products(net: VGG) -> VGG:
    """Compute fc6, fc7 and fc8 as matrix products over all positions."""
    for name in ("fc6", "fc7", "fc8"):
        setattr(net, name, _like(net.get_submodule(name), _Product))
    return net


def pooled_by_slices(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H // 2, W // 2): the largest of 2x2, without indices."""
    height, width = (side // 2 * 2 for side in maps.shape[2:])
    upper = torch.maximum(maps[:, :, 0:height:2, 0:width:2], maps[:, :, 0:height:2, 1:width:2])
    lower = torch.maximum(maps[:, :, 1:height:2, 0:width:2], maps[:, :, 1:height:2, 1:width:2])
    return torch.maximum(upper, lower)


def fc_as_product(layer: nn.Conv2d, maps: Tensor) -> Tensor:
    """Apply a layer to a map of any size as one product over all positions, for a GPU.

    Weights and maps must have their channels last in memory. The windows of fc6 are copied: up to
    49 times the map's values.

    Args:
        layer: (O, C, k, k) weight and (O,) bias; no padding, stride 1.
        maps: (N, C, H, W).

    Returns:
        (N, O, H - k + 1, W - k + 1).
    """
    k = layer.kernel_size[0]
    windows = maps.permute(0, 2, 3, 1)  # N, H, W, C
    if k > 1:
        windows = windows.unfold(1, k, 1).unfold(2, k, 1).permute(0, 1, 2, 4, 5, 3)
    rows = windows.flatten(3) if k > 1 else windows
    weights = layer.weight.permute(0, 2, 3, 1).flatten(1)
    return linear(rows, weights, layer.bias).permute(0, 3, 1, 2)


class _Product(nn.Conv2d):
    def forward(self, maps: Tensor) -> Tensor:
        return fc_as_product(self, maps)


class _PoolBiasReLU(nn.Module):
    def __init__(self, pool: nn.Module, bias: nn.Parameter) -> None:
        super().__init__()
        self.pool, self.bias = pool, bias

    def forward(self, values: Tensor) -> Tensor:
        pooled = self.pool(values)
        return (pooled + self.bias.to(pooled.dtype).view(1, -1, 1, 1)).relu_()


class _PaddedConv(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        return conv2d(_padded(images), _padded(self.weight), self.bias, padding=self.padding)


class _ConvReLU(nn.Conv2d):
    padded = False  # whether the input has more channels than the weights

    def forward(self, images: Tensor) -> Tensor:
        device, dtype = images.device.type, images.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        images, weight, bias = images.to(dtype), self.weight.to(dtype), self.bias.to(dtype)
        if self.padded:
            images, weight = _padded(images), _padded(weight)
        return conv_relu(images, weight, bias, self.padding[0])


def _padded(values: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, PADDED_CHANNELS, H, W)."""
    return pad(values, (0, 0, 0, 0, 0, PADDED_CHANNELS - values.shape[1]))


def _like(conv: nn.Conv2d, kind: type[nn.Conv2d]) -> nn.Conv2d:
    """A convolution of another class with the same weights."""
    new = kind(conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding)
    new.weight, new.bias = conv.weight, conv.bias
    if isinstance(conv, _PaddedConv):
        new.padded = True
    return new


@torch.library.custom_op("vgg_benchmarks::conv_relu", mutates_args=())
def conv_relu(images: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """ReLU of a convolution of stride 1; on the CPU, for rehearsals, in two operations."""
    if images.is_cuda:
        sides = (padding, padding)
        return torch.cudnn_convolution_relu(images, weight, bias, (1, 1), sides, (1, 1), 1)
    return conv2d(images, weight, bias, padding=padding).relu_()


@conv_relu.register_fake
def _(images: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    return conv2d(images, weight, bias, padding=padding)


def _keep(ctx, inputs, output) -> None:
    images, weight, _, ctx.padding = inputs
    ctx.save_for_backward(images, weight, output)


def _backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
    images, weight, output = ctx.saved_tensors
    gradient = torch.ops.aten.threshold_backward(gradient, output, 0)
    sides, wanted = [ctx.padding, ctx.padding], [ctx.needs_input_grad[0], True, True]
    of_images, of_weight, of_bias = torch.ops.aten.convolution_backward(
        gradient, images, weight, [len(weight)], [1, 1], sides, [1, 1], False, [0, 0], 1, wanted
    )
    return of_images, of_weight, of_bias, None


conv_relu.register_autograd(_backward, setup_context=_keep)
