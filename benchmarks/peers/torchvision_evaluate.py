"""Evaluates a net as torchvision's reference script does (references/classification/train.py).

The script is not in the package, so the steps of its `evaluate` are called here: ImageFolder, the
transforms of its evaluation preset (Resize to Q, CenterCrop, PILToTensor, ConvertImageDtype,
Normalize), a DataLoader in order, then the loop with cross-entropy, top-1 and top-5.
"""

import time

from contract import Measured, Task, peer_command


def evaluate(task: Task) -> Measured:
    import torch
    from foreign_nets import normalisation, torchvision_net
    from torch import nn
    from torch.utils.data import DataLoader, SequentialSampler
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import (
        CenterCrop,
        Compose,
        ConvertImageDtype,
        InterpolationMode,
        Normalize,
        PILToTensor,
        Resize,
    )

    from vgg_deploy.net.checkpoint import load_checkpoint

    torch.set_num_threads(task.threads)
    checkpoint = load_checkpoint(task.model)
    net, spec, criterion = torchvision_net(checkpoint), checkpoint.spec, nn.CrossEntropyLoss()
    steps = [
        Resize(task.side, InterpolationMode.BILINEAR),
        CenterCrop(spec.crop),
        PILToTensor(),
        ConvertImageDtype(torch.float),
    ]
    index = {id: i for i, id in enumerate(spec.classes)}
    dataset = ImageFolder(task.data, Compose([*steps, Normalize(*normalisation(spec))]))
    dataset.target_transform = lambda i: index[dataset.classes[i]]
    loader = DataLoader(
        dataset, task.batch, sampler=SequentialSampler(dataset), num_workers=task.threads
    )
    loss, correct, correct5, predictions = 0.0, 0, 0, []
    start = time.perf_counter()
    with torch.inference_mode():
        for images, target in loader:
            output = net(images)
            loss += criterion(output, target).item()
            hits = output.topk(min(5, len(spec.classes)), 1).indices == target[:, None]
            correct, correct5 = correct + hits[:, 0].sum().item(), correct5 + hits.sum().item()
            predictions += output.argmax(1).tolist()
    return Measured(len(dataset), time.perf_counter() - start, correct, predictions)


main = peer_command("torchvision evaluate", "torchvision", ("crop",), evaluate)

if __name__ == "__main__":
    main()
