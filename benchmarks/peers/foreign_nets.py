"""One checkpoint of ours as the nets of torchvision and timm: the inverse of how their weights are read."""

import torch
from torch import Tensor, nn

from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import ARCHS, HIDDEN, thin
from vgg_deploy.net.checkpoint import Checkpoint
from vgg_deploy.net.foreign_layouts import FC, TORCHVISION, WITH_HEAD, Layout
from vgg_deploy.net.spec import NetSpec

(TIMM,) = (layout for layout in WITH_HEAD if layout.label == "timm")


def torchvision_net(checkpoint: Checkpoint) -> nn.Module:
    """torchvision's VGG; thin ones get narrower layers in its classifier."""
    from torchvision.models import vgg

    spec = checkpoint.spec
    with torch.device("meta"):  # the weights are given, not drawn
        net = vgg.VGG(vgg.make_layers(configuration(spec)), len(spec.classes), init_weights=False)
        for place, conv in zip(
            (0, 3, 6), ARCHS[spec.arch].head(len(spec.classes), spec.width), strict=True
        ):
            if spec.width != 1:
                net.classifier[place] = nn.Linear(conv.kernel**2 * conv.c_in, conv.c_out)
    return filled(net, checkpoint, TORCHVISION)


def timm_net(checkpoint: Checkpoint) -> nn.Module:
    """timm's VGG, by `create_model` where it is one that timm knows; thin ones are put together from its parts."""
    import timm
    from timm.models.vgg import VGG, ConvMlp

    spec, cfg = checkpoint.spec, configuration(checkpoint.spec)
    with torch.device("meta"):
        if spec.width == 1:
            net = timm.create_model(
                f"vgg{len(cfg) - cfg.count('M') + 3}", num_classes=len(spec.classes)
            )
        else:
            net, hidden = VGG(cfg, len(spec.classes)), thin(HIDDEN, spec.width)
            net.pre_logits, net.head.fc = (
                ConvMlp(net.num_features, hidden, 7),
                nn.Linear(hidden, len(spec.classes)),
            )
    return filled(net, checkpoint, TIMM)


def configuration(spec: NetSpec) -> list:
    """Channels and "M" for a pool, as both write a net of 3x3 convolutions. Raises: InputError for the others, which neither has."""
    arch = ARCHS[spec.arch]
    if (
        arch.lrn
        or any(kernel != 3 for kernels in arch.kernels for kernel in kernels)
        or spec.crop != 224
    ):
        raise InputError(
            f"net {spec.arch}, crop {spec.crop}: torchvision and timm have A, B, D and E with the crop 224"
        )
    return [
        item for stage in arch.stages(spec.width) for item in (*(conv.c_out for conv in stage), "M")
    ]


def filled(net: nn.Module, checkpoint: Checkpoint, layout: Layout) -> nn.Module:
    """`net` in evaluation mode with our weights under its names."""
    arch, shapes = (
        ARCHS[checkpoint.spec.arch],
        {name: tensor.shape for name, tensor in net.state_dict().items()},
    )
    names = [*(conv.name for stage in arch.stages() for conv in stage), *FC]
    held: dict[str, Tensor] = {}
    for name, source in zip(names, layout.sources(arch), strict=True):
        for part, key in (("weight", source.weight), ("bias", source.bias)):
            held[key] = checkpoint.weights[f"{name}.{part}"].reshape(
                shapes[key]
            )  # fc6: (C, 7, 7) in a row, as both flatten it
    net.load_state_dict(held, assign=True)
    return net.eval()


def normalisation(spec: NetSpec) -> tuple[list[float], list[float]]:
    """(mean, standard deviation) of pixels of 0-1 with which those projects' transforms feed a net what ours is fed."""
    return [m / 255 for m in spec.preprocessing.mean], [1 / 255] * 3
