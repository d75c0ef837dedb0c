"""Exports quantized files that keep a limit: finds the layers, writes a file, judges the file.

Layers are chosen by simulation in PyTorch on some of the photos. A file is judged by ONNX Runtime
on others, before it gets its name.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from export.limit.attempts import Attempt, best_of, level_of, may_go_on, promises
from export.limit.criterion import Criterion, Standard, Tally
from export.limit.photos import Photos, batches_of, ordered, standard
from export.limit.record import (
    ALONE,
    CHOOSING,
    JUDGED,
    LimitRecord,
    Trial,
    failure,
    write_trials,
)
from export.limit.search import Kept, find_layers, safer
from export.limit.trials import Trials
from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.preparation import Prepared, Task
from export.quantize.convolve import convolutions_of, layers_of, net_input, run_layer
from export.quantize.rounding import Quantization
from export.quantize.sensitivity import Sensitivity, measure_sensitivity
from export.released_files import Exported
from export.settings.precision import PRECISIONS, Precision
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.size_batches import Batch
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.net.model import VGG
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.progress import clock, progress
from vgg_deploy.runtimes.onnxruntime import OnnxRuntime

SENSITIVITY_IMAGES = 64  # of those that choose
MEASURED = {  # what runs the file, by precision
    "int8-cpu": "the file in ONNX Runtime's integer kernels on this CPU",
    "int8": "the file in ONNX Runtime on a CPU, which rounds to 8 bits and adds in floating point; "
    "TensorRT's integer sums differ from it by rounding",
    "fp8": "the file in ONNX Runtime on a CPU, which simulates fp8: it rounds to fp8 and convolves "
    "in a wider type, because no CPU has fp8 convolutions; a GPU may differ",
}


class _NotShown(CheckFailed):
    """The judging images do not show that a file keeps its limit."""


@dataclass(frozen=True, eq=False)
class FileJudge:
    """Judges one file.

    Attributes:
        record: What was tried; gets the file's result.
        judge: Called with the file in ONNX Runtime; raises CheckFailed if it is not shown to keep
            the limit.
    """

    record: LimitRecord
    judge: Callable[[OnnxRuntime], None]


@dataclass(frozen=True, eq=False)
class _Choosing:
    """The choosing images, in memory.

    Attributes:
        batches: (N, 3, H, W) uint8 RGB.
        indices: Of their images.
        standard: The float32 net's answers.
    """

    batches: list[np.ndarray]
    indices: list[np.ndarray]
    standard: Standard


class LimitedFiles:
    """The quantized files of one export, which share photos and the float32 net's answers."""

    def __init__(self, task: Task, prepared: Prepared):
        """Take what was prepared.

        Args:
            task: With a limit.
            prepared: With photos.
        """
        assert prepared.photos is not None and task.options.max_top1_drop is not None
        self.task, self.prepared = task, prepared
        self.photos: Photos = prepared.photos
        self.criterion = Criterion(task.options.max_top1_drop, self.photos.judge.labelled)
        self._choosing: _Choosing | None = None
        self._judging: Standard | None = None

    def export(
        self, precision: Precision, path: Path, write: Callable[[Prepared, FileJudge], Exported]
    ) -> Exported:
        """Write one file.

        Args:
            precision: One that is quantized.
            path: Final name of the file; the trials are written beside it.
            write: Writes, checks and names a file, unless its judge refuses it.

        Raises:
            LimitBroken: If no file keeps the limit.
            LimitUndecided: If the judging images do not suffice.
            CheckFailed: If a file fails another check.
        """
        record, kept = self._choose(precision)
        table = path.with_name(f"{path.name.removesuffix('.onnx')}.trials.csv")
        following: Kept | None = kept
        while following is not None:
            try:
                return self._attempt(precision, record, following, write)
            except _NotShown:
                attempts = len(record.attempts)
                goes_on = may_go_on(attempts, record.attempts[-1].tally.images, self.criterion)
                following = safer(record.order, following) if goes_on else None
            finally:
                write_trials(record, table)
        raise failure(record, best_of(record.attempts), table)

    def _attempt(
        self,
        precision: Precision,
        record: LimitRecord,
        kept: Kept,
        write: Callable[[Prepared, FileJudge], Exported],
    ) -> Exported:
        names = ", ".join(name for name in record.order if name in kept) or "no layer"
        self.task.log(f"{precision.name}: a file with {names} in float")

        def judge(runtime: OnnxRuntime) -> None:
            self._judge(runtime, precision, record, kept)

        return write(self._keeping(precision, kept), FileJudge(record, judge))

    def _judge(
        self, runtime: OnnxRuntime, precision: Precision, record: LimitRecord, kept: Kept
    ) -> None:
        """Run the judging images through a file."""
        reference = self._reference()
        tally = reference.tally(self._answers(runtime, f"{precision.name}: judging"))
        level = level_of(len(record.attempts))
        attempt = Attempt(kept, tally, self.criterion.evidence(tally, level), level)
        record.attempts.append(attempt)
        evidence = attempt.evidence
        row = _trial(JUDGED, record.order, kept, tally, evidence.high, level, attempt.proves)
        record.trials.append(row)
        words = self.criterion.loss_in_words(tally, evidence)
        self.task.log(
            f"{precision.name}: {words}, {'the limit is kept' if attempt.proves else 'not enough'}"
        )
        if not attempt.proves:
            raise _NotShown("the limit is not shown to be kept")

    def _keeping(self, precision: Precision, kept: Kept) -> Prepared:
        """What was prepared, with some layers of a precision in float."""
        quantized = self.prepared.quantized
        assert quantized is not None
        whole = quantized.quantizations[precision.name]
        thresholds = {name: t for name, t in whole.thresholds.items() if name not in kept}
        chosen = {**quantized.quantizations, precision.name: replace(whole, thresholds=thresholds)}
        return replace(self.prepared, quantized=replace(quantized, quantizations=chosen))

    def _choose(self, precision: Precision) -> tuple[LimitRecord, Kept]:
        """Find the layers to keep, on the choosing images."""
        reference = self._reference()
        net = self.task.open_net()
        quantized = self.prepared.quantized
        assert quantized is not None
        whole = quantized.quantizations[precision.name]
        choosing = self._read_choosing(net)
        alone = self._sensitivities(net, precision, whole)
        order = tuple(row.layer for row in sorted(alone, key=lambda row: (row.sqnr_db, row.layer)))
        record = LimitRecord(
            precision.name,
            self.criterion,
            order,
            self.photos.stated,
            "the float32 file in ONNX Runtime on a CPU",
            MEASURED[precision.name],
            reference.error_pct(),
            [_alone(row, order) for row in alone],
            [],
        )
        trials = Trials(net, precision, whole, choosing.batches)
        passes = self._passes(trials, choosing, record)
        sizes = {name: layer.weight.numel() for name, layer in convolutions_of(net).items()}
        found = find_layers(order, sizes, passes)
        if not found.passes:
            self.task.log(
                f"{precision.name}: no set of layers promises to keep the limit on the choosing "
                "images; the one with a single quantized layer is judged"
            )
        return record, found.kept

    def _passes(
        self, trials: Trials, choosing: _Choosing, record: LimitRecord
    ) -> Callable[[Kept], bool]:
        """The trial of a set of layers."""
        count = len(self.photos.choose)
        judging = int((self._reference().best >= 0).sum())
        started = time.monotonic()
        most = 2 * len(record.order).bit_length() + len(record.order)
        done = 0

        def passes(kept: Kept) -> bool:
            nonlocal done
            label = f"{record.precision}: trial {done + 1}, {len(kept)} layers in float"
            with progress(label, 1) as bar:
                scores = trials.scores(kept, bar.advance)
            best = ordered(count, choosing.indices, [scores.argmax(1)])
            tally = choosing.standard.tally(best)
            passed = promises(tally, judging, self.criterion)
            if passed:
                trials.hold()
            evidence = self.criterion.evidence(tally.scaled(judging), level_of(0))
            record.trials.append(
                _trial(CHOOSING, record.order, kept, tally, evidence.high, level_of(0), passed)
            )
            done += 1
            if done == 1 and not passed:
                seconds = time.monotonic() - started
                self.task.log(
                    f"{record.precision}: at most {most} trials follow, each of "
                    f"{clock(max(1, seconds))} or less"
                )
            return passed

        return passes

    def _sensitivities(
        self, net: VGG, precision: Precision, quantization: Quantization
    ) -> list[Sensitivity]:
        """What quantizing every layer alone costs."""
        images = self.photos.choose.subset(SENSITIVITY_IMAGES)
        batches = [batch.images for batch in self._batches(images, net.spec)]
        with progress(f"{precision.name}: each layer alone", sum(map(len, batches))) as bar:
            return measure_sensitivity(net, precision, quantization, batches, bar.advance)

    def _read_choosing(self, net: VGG) -> _Choosing:
        """Read the choosing images, and ask the float32 net about them."""
        if self._choosing is None:
            photos = self.photos.choose
            self.task.log(f"PyTorch's answers of {len(photos):,} choosing images")
            found = list(self._batches(photos, net.spec))
            indices = [batch.indices for batch in found]
            batches = [batch.images for batch in found]
            best = [_float_answers(net, batch) for batch in batches]
            answers = ordered(len(photos), indices, best)
            own = standard(photos, self.photos.classes, answers)
            self._choosing = _Choosing(batches, indices, own)
        return self._choosing

    def _reference(self) -> Standard:
        """The answers of the float32 file on the judging images."""
        if self._judging is None:
            net, task = self.task.open_net(), self.task
            artifact = Artifact(
                net.spec,
                task.options.form,
                "fp32",
                task.source.name,
                self.prepared.source_sha256,
                self.prepared.outputs,
            )
            with TemporaryDirectory(prefix=".limit.", dir=_existing(task.folder)) as folder:
                path = Path(folder) / "fp32.onnx"
                write_onnx(path, onnx_graph(net, artifact, PRECISIONS["fp32"]))
                del net
                runtime = OnnxRuntime(path, threads=task.threads)
                best = self._answers(runtime, "fp32: judging")
                del runtime
            self._judging = standard(self.photos.judge, self.photos.classes, best)
        return self._judging

    def _answers(self, runtime: OnnxRuntime, label: str) -> np.ndarray:
        """(images,) int64, a file's best classes of the judging images."""
        photos = self.photos.judge
        indices, best = [], []
        with progress(label, len(photos)) as bar:
            for batch in self._batches(photos, runtime.spec):
                found = runtime.run(batch.images, ("posterior",))["posterior"]
                indices.append(batch.indices)
                best.append(found.argmax(1))
                bar.advance(len(batch.images))
        return ordered(len(photos), indices, best)

    def _batches(self, photos: Dataset, spec: NetSpec) -> Iterator[Batch]:
        scale = Scale(spec.test_side, spec.preprocessing.filter)
        skip = self._skip if self.task.options.on_error == "skip" else None
        return batches_of(photos, scale, self.task.threads, skip)

    def _skip(self, index: int, error: InputError) -> None:
        """Leave an unreadable image out, in all runs alike."""


def _existing(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@torch.inference_mode()
def _float_answers(net: VGG, batch: np.ndarray) -> np.ndarray:
    """(N,) int64, the float32 net's best classes."""
    values = net_input(batch, net.spec)
    for _, layer in layers_of(net):
        values = run_layer(layer, values)
    best: np.ndarray = values.mean((2, 3)).argmax(1).numpy()
    return best


def _trial(
    step: str,
    order: tuple[str, ...],
    kept: Kept,
    tally: Tally,
    high: float,
    level: float,
    passes: bool,
) -> Trial:
    names = " ".join(name for name in order if name in kept)
    loss = 100 * (tally.lost - tally.won) / tally.images
    answer = "yes" if passes else "no"
    return Trial(step, "", names, *_counts(tally), loss, 100 * high, 100 * level, None, answer)


def _counts(tally: Tally) -> tuple[int, int, int]:
    return tally.images, tally.lost, tally.won


def _alone(row: Sensitivity, order: tuple[str, ...]) -> Trial:
    others = " ".join(name for name in order if name != row.layer)
    return Trial(
        ALONE, row.layer, others, row.images, None, None, None, None, None, row.sqnr_db, ""
    )
