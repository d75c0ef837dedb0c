"""Evaluates a net as timm's validate.py does, with timm's model, data set, loader and meters.

The script itself is not in timm's package, so its steps are called here: create_model,
create_dataset, create_loader (resize to Q, centre crop), a first batch of random pixels, then the
loop with cross-entropy, top-1 and top-5 after every batch.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from contract import Measured, Task, peer_command


def evaluate(task: Task) -> Measured:
    import torch
    from foreign_nets import normalisation, timm_net
    from timm.data import create_dataset, create_loader
    from timm.utils import AverageMeter, accuracy
    from torch import nn

    from vgg_deploy.net.checkpoint import load_checkpoint

    torch.set_num_threads(task.threads)
    checkpoint, device = load_checkpoint(task.model), torch.device("cpu")
    net, spec, criterion = timm_net(checkpoint), checkpoint.spec, nn.CrossEntropyLoss()
    mean, std = normalisation(spec)
    with TemporaryDirectory() as folder:
        classes = Path(folder) / "classes.txt"
        classes.write_text("\n".join(spec.classes))
        dataset = create_dataset("", task.data, class_map=str(classes), search_split=False)
    loader = create_loader(
        dataset,
        (3, spec.crop, spec.crop),
        task.batch,
        interpolation="bilinear",
        mean=tuple(mean),
        std=tuple(std),
        crop_pct=spec.crop / task.side,
        num_workers=task.threads,
        device=device,
    )
    losses, top1, top5, predictions = AverageMeter(), AverageMeter(), AverageMeter(), []
    with torch.inference_mode():
        net(torch.randn(task.batch, 3, spec.crop, spec.crop))
        start = time.perf_counter()
        for images, target in loader:
            output = net(images)
            loss = criterion(output, target)
            acc1, acc5 = accuracy(output, target, topk=(1, 5))
            losses.update(loss.item(), images.size(0))
            top1.update(acc1.item(), images.size(0))
            top5.update(acc5.item(), images.size(0))
            predictions += output.argmax(1).tolist()
        seconds = time.perf_counter() - start
    return Measured(top1.count, seconds, round(top1.sum / 100), predictions)


main = peer_command("timm validate", "timm", ("crop",), evaluate)

if __name__ == "__main__":
    main()
