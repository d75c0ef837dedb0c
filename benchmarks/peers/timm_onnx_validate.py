"""Evaluates a file as timm's onnx_validate.py does, with timm's data set, loader and meters.

The file takes normalised images. The script itself is not in timm's package, so its steps are
called here. Two settings differ from its defaults: the filter is bilinear, with which VGGs are
trained, instead of bicubic; and the number of threads is that of the other evaluations.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from contract import Measured, Task, peer_command
from photos import artifact_of


def evaluate(task: Task) -> Measured:
    import onnxruntime as ort
    import torch
    from timm.data import create_dataset, create_loader
    from timm.utils import AverageMeter, accuracy

    from vgg_deploy.net.spec import USUAL_MEAN, USUAL_STD

    options = ort.SessionOptions()
    options.intra_op_num_threads = task.threads
    session = ort.InferenceSession(str(task.model), options, providers=["CPUExecutionProvider"])
    spec = artifact_of(task.model).spec
    with TemporaryDirectory() as folder:
        classes = Path(folder) / "classes.txt"
        classes.write_text("\n".join(spec.classes))
        dataset = create_dataset("", task.data, class_map=str(classes), search_split=False)
    loader = create_loader(
        dataset,
        (3, spec.crop, spec.crop),
        task.batch,
        use_prefetcher=False,
        interpolation="bilinear",
        mean=USUAL_MEAN,
        std=USUAL_STD,
        crop_pct=spec.crop / task.side,
        num_workers=task.threads,
    )
    (name,) = (i.name for i in session.get_inputs())
    top1, top5, predictions = AverageMeter(), AverageMeter(), []
    start = time.perf_counter()
    for images, target in loader:
        posterior, _ = session.run([], {name: images.numpy()})
        acc1, acc5 = accuracy(torch.from_numpy(posterior), target, topk=(1, 5))
        top1.update(acc1.item(), images.size(0))
        top5.update(acc5.item(), images.size(0))
        predictions += posterior.argmax(1).tolist()
    return Measured(top1.count, time.perf_counter() - start, round(top1.sum / 100), predictions)


main = peer_command("timm onnx_validate", "timm", ("crop",), evaluate)

if __name__ == "__main__":
    main()
