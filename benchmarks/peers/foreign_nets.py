"""Builds the nets of torchvision and timm from a checkpoint of ours.

This is the inverse of reading their weights.
"""

import torch
from torch import Tensor, nn

from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import ARCHS, HIDDEN, thin
from vgg_deploy.net.checkpoint import Checkpoint
from vgg_deploy.net.foreign_layouts import FC, TORCHVISION, WITH_HEAD, Layout
from vgg_deploy.net.spec import NetSpec

(TIMM,) = (layout for layout in WITH_HEAD if layout.label == "timm")
CLASSIFIER_LAYERS = (0, 3, 6)  # indices of the linear layers in torchvision's classifier


def torchvision_net(checkpoint: Checkpoint) -> nn.Module:
    """Torchvision's VGG; thin nets get narrower layers in its classifier."""
    from torchvision.models import vgg

    spec = checkpoint.spec
    head = ARCHS[spec.arch].head(len(spec.classes), spec.width)
    with torch.device("meta"):  # the weights come from the checkpoint
        net = vgg.VGG(vgg.make_layers(configuration(spec)), len(spec.classes), init_weights=False)
        if spec.width != 1:
            for index, conv in zip(CLASSIFIER_LAYERS, head, strict=True):
                net.classifier[index] = nn.Linear(conv.kernel**2 * conv.c_in, conv.c_out)
    return with_weights(net, checkpoint, TORCHVISION)


def timm_net(checkpoint: Checkpoint) -> nn.Module:
    """Timm's VGG, from `create_model`; thin nets are built from its parts."""
    import timm
    from timm.models.vgg import VGG, ConvMlp

    spec = checkpoint.spec
    classes, cfg = len(spec.classes), configuration(spec)
    with torch.device("meta"):
        if spec.width == 1:
            layers = len(cfg) - cfg.count("M") + 3
            net = timm.create_model(f"vgg{layers}", num_classes=classes)
        else:
            hidden = thin(HIDDEN, spec.width)
            net = VGG(cfg, classes)
            net.pre_logits = ConvMlp(net.num_features, hidden, 7)
            net.head.fc = nn.Linear(hidden, classes)
    return with_weights(net, checkpoint, TIMM)


def configuration(spec: NetSpec) -> list[int | str]:
    """Output channels of each convolution, and "M" for a pool, as both projects write a net.

    Raises:
        InputError: If the net is not one of 3x3 convolutions with the crop 224.
    """
    arch = ARCHS[spec.arch]
    only_3x3 = all(kernel == 3 for kernels in arch.kernels for kernel in kernels)
    if arch.lrn or not only_3x3 or spec.crop != 224:
        raise InputError(
            f"net {spec.arch}, crop {spec.crop}: torchvision and timm have A, B, D and E "
            "with the crop 224"
        )
    layers: list[int | str] = []
    for stage in arch.stages(spec.width):
        layers += [conv.c_out for conv in stage]
        layers.append("M")
    return layers


def with_weights(net: nn.Module, checkpoint: Checkpoint, layout: Layout) -> nn.Module:
    """`net` in evaluation mode, with our weights under its names."""
    arch = ARCHS[checkpoint.spec.arch]
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    names = [*(conv.name for stage in arch.stages() for conv in stage), *FC]
    weights: dict[str, Tensor] = {}
    for name, source in zip(names, layout.sources(arch), strict=True):
        for part, key in (("weight", source.weight), ("bias", source.bias)):
            # fc6: (C, 7, 7) in a row, as both projects flatten it
            weights[key] = checkpoint.weights[f"{name}.{part}"].reshape(shapes[key])
    net.load_state_dict(weights, assign=True)
    return net.eval()


def normalisation(spec: NetSpec) -> tuple[list[float], list[float]]:
    """(mean, standard deviation) of pixels of 0-1, for those projects' transforms.

    With them their nets get the same input as ours.
    """
    return [m / 255 for m in spec.preprocessing.mean], [1 / 255] * 3
