"""Exports quantized files that keep a limit: finds the layers, writes a file, judges the file.

Layers are chosen by simulation in PyTorch on some of the photos. A file is judged by ONNX Runtime
on others, before it gets its name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from export.limit.attempts import Attempt, best_of, level_of, may_go_on
from export.limit.choice import ChoosingImages, choose_layers, float_answers
from export.limit.criterion import UNREADABLE, Criterion, Standard
from export.limit.photos import Photos, batches_of, ordered, standard
from export.limit.record import (
    JUDGED,
    LimitRecord,
    failure,
    tried_row,
    write_trials,
)
from export.limit.search import Kept, safer
from export.limit.trials import Trials
from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.preparation import Prepared, Task
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
from vgg_deploy.progress import progress
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
        self._choosing: ChoosingImages | None = None
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
        rank = self._ranking(precision, record)
        table = path.with_name(f"{path.name.removesuffix('.onnx')}.trials.csv")
        following: Kept | None = kept
        while following is not None:
            try:
                return self._attempt(precision, record, following, write)
            except _NotShown:
                attempts = len(record.attempts)
                goes_on = may_go_on(attempts, record.attempts[-1].tally.images, self.criterion)
                following = safer(rank(), following) if goes_on else None
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
        row = tried_row(JUDGED, record.order, kept, tally, evidence.high, level, attempt.proves)
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
        trials = Trials(net, precision, whole, choosing.batches)
        record = LimitRecord(
            precision.name,
            self.criterion,
            trials.names,
            self.photos.stated,
            "the float32 file in ONNX Runtime on a CPU",
            MEASURED[precision.name],
            reference.error_pct(),
            [],
            [],
        )
        judging = int((reference.best != UNREADABLE).sum())
        rank = self._ranking(precision, record, net)
        return record, choose_layers(trials, choosing, judging, record, rank, self.task.log)

    def _ranking(
        self, precision: Precision, record: LimitRecord, net: VGG | None = None
    ) -> Callable[[], tuple[str, ...]]:
        """Gives the layers of a file, the most sensitive first; measures that in its first call.

        Args:
            precision: Of the file.
            record: Gets the order.
            net: The float32 net; None: it is opened if it is needed.
        """
        quantized = self.prepared.quantized
        assert quantized is not None
        whole = quantized.quantizations[precision.name]

        def measure() -> list[Sensitivity]:
            return self._sensitivities(net or self.task.open_net(), precision, whole)

        return lambda: record.rank(measure)

    def _sensitivities(
        self, net: VGG, precision: Precision, quantization: Quantization
    ) -> list[Sensitivity]:
        """What quantizing every layer alone costs."""
        self.task.log(f"{precision.name}: some layers have to stay in float; each is tried alone")
        images = self.photos.choose.subset(SENSITIVITY_IMAGES)
        batches = [batch.images for batch in self._batches(images, net.spec)]
        with progress(f"{precision.name}: each layer alone", sum(map(len, batches))) as bar:
            return measure_sensitivity(net, precision, quantization, batches, bar.advance)

    def _read_choosing(self, net: VGG) -> ChoosingImages:
        """Read the choosing images, and ask the float32 net about them."""
        if self._choosing is None:
            photos = self.photos.choose
            self.task.log(f"PyTorch's answers of {len(photos):,} choosing images")
            found = list(self._batches(photos, net.spec))
            indices = [batch.indices for batch in found]
            batches = [batch.images for batch in found]
            best = [float_answers(net, batch) for batch in batches]
            answers = ordered(len(photos), indices, best)
            own = standard(photos, self.photos.classes, answers)
            self._choosing = ChoosingImages(batches, indices, own)
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
