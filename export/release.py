"""Exports a checkpoint to ONNX files that get their final names only after passing their checks."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from onnx import ModelProto

from export.file_names import FEATURES, LOCALISER, onnx_name, replaces
from export.held_out_costs import Costs, GivesOutputs, measure_costs
from export.onnx.graph import Graph, onnx_graph
from export.onnx.onnx_file import beside, read_referring, write_onnx, write_with_data
from export.onnx_manifest import describe_quantization, onnx_manifest
from export.preparation import Prepared, Task, prepare
from export.quantize.bands import some_rows
from export.quantize.convolve import paper_name
from export.quantize.cost import judge_cost
from export.quantize.low_rank import put_factors
from export.quantize.rounding import Quantization, ReducedNet
from export.released_files import Exported, FailedFile, PartlyExported
from export.settings.export_options import ExportOptions
from export.settings.precision import BF16, FLOAT, Precision
from export.verify.compared import Compared
from export.verify.feature_cost import judge_feature_costs
from export.verify.feature_parity import judge_exact_features, judge_reduced_features
from export.verify.float32_twin import Twin, TwinRuntime, check_twin, float32_twin
from export.verify.lint import lint
from export.verify.memory import keep_blocks, return_blocks
from export.verify.onnx_checker import check_onnx
from export.verify.parity import judge_consistent, judge_exact, judge_reduced
from export.verify.rescale_parity import RescaleParity, compare_rescaled, judge_rescaled
from export.within_limit import FileJudge, LimitedFiles
from vgg_deploy.errors import CheckFailed, InputError, Undecided
from vgg_deploy.exported.metadata import Artifact, data_path, manifest_path
from vgg_deploy.exported.signatures import signature_path
from vgg_deploy.files import whole_files
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.model import VGG
from vgg_deploy.net.named_weights import Located, locate
from vgg_deploy.net.outputs import BOXES
from vgg_deploy.runtimes.block_products import check_products
from vgg_deploy.runtimes.contract import Outputs
from vgg_deploy.runtimes.graph_interface import fixed_batches
from vgg_deploy.runtimes.integer_kernels import check_arithmetic
from vgg_deploy.runtimes.onnxruntime import OnnxRuntime
from vgg_deploy.sealed_json import sealed

__all__ = ["ExportOptions", "Exported", "PartlyExported", "export_onnx"]


class _Written(NamedTuple):
    """A file before it has its final name.

    Attributes:
        graph: The ONNX file.
        data: The separate file of its weights, if it has one.
    """

    graph: Path
    data: Path | None

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.stat().st_size for file in (self.graph, self.data) if file)


def export_onnx(
    source: str | Path | Located,
    folder: Path,
    options: ExportOptions,
    classes: ClassList | None,
    threads: int,
    log: Callable[[str], None],
    stated: StatedInput = NOTHING_STATED,
    on_file: Callable[[list[Exported]], None] = lambda exported: None,
) -> list[Exported]:
    """Write an ONNX file and its manifest for every precision.

    They are called `<name or arch>.<precision>.onnx`, with "features" and the input form in the
    name where they are not the usual ones, see `onnx_name`.

    Args:
        source: Checkpoint or foreign weights, see `open_net`.
        folder: Of the files.
        options: Which files to write.
        classes: For foreign weights, see `open_net`.
        threads: Of calibration and check; as many processes decode images.
        log: Called with a sentence for each step and warning.
        stated: For foreign weights, see `open_net`.
        on_file: Called with the files so far whenever one has its final name.

    Raises:
        InputError: If the input cannot be used; nothing is written then.
        Undecided: If the photos cannot show a limit; nothing is written then.
        PartlyExported: If files fail; the others are written.
    """
    keep_blocks()
    task = Task(locate(source), folder, options, classes, threads, log, stated)
    prepared = prepare(task)
    limited = LimitedFiles(task, prepared) if prepared.photos else None
    exported, failures = [], []
    for precision in task.precisions:
        try:
            if limited and precision.is_quantized:
                exported.append(_export_within_limit(task, limited, precision))
            else:
                exported.append(_export(task, prepared, precision))
            on_file(exported)
        except (CheckFailed, InputError, Undecided) as error:
            # its frames keep sessions alive. Their threads do not exist in processes that are
            # forked later, and such a process must not free the sessions
            error.__context__ = None
            name = _name(task, prepared, precision)
            failures.append(FailedFile(name, error.with_traceback(None)))
    if failures and not exported and all(isinstance(f.error, InputError) for f in failures):
        raise failures[0].error  # the folder cannot be written
    if failures:
        raise PartlyExported(exported, failures)
    return exported


def _export_within_limit(task: Task, limited: LimitedFiles, precision: Precision) -> Exported:
    """Find the layers that a file keeps in float; write, check, judge and name it."""
    path = task.folder / _name(task, limited.prepared, precision)

    def write(prepared: Prepared, judge: FileJudge) -> Exported:
        return _export(task, prepared, precision, judge)

    return limited.export(precision, path, write)


def _export(
    task: Task, prepared: Prepared, precision: Precision, judge: FileJudge | None = None
) -> Exported:
    """Write, check and name one file, its weights outside and its manifest.

    A file that its judge refuses does not get its name.
    """
    path = task.folder / _name(task, prepared, precision)
    parts = [path, manifest_path(path)]
    if task.options.external_data:
        parts.insert(0, data_path(path))
    obsolete = {data_path(path), signature_path(path)} - set(parts)
    with whole_files(parts, tuple(obsolete)) as partials:
        written = _Written(partials[-2], partials[0] if task.options.external_data else None)
        exported = _FileExport(task, prepared, precision, path, judge).write_and_check(written)
        manifest = onnx_manifest(
            exported,
            written.graph,
            written.data,
            prepared,
            task.options.method,
            task.options.opset,
        )
        text = json.dumps(sealed(manifest), indent=2, ensure_ascii=False) + "\n"
        partials[-1].write_text(text, encoding="utf-8")
    return exported


def _name(task: Task, prepared: Prepared, precision: Precision) -> str:
    stem = task.options.name or prepared.arch
    kind = FEATURES if task.options.features else LOCALISER if BOXES in prepared.outputs else ""
    options = task.options
    return onnx_name(stem, options.input, precision.name, kind, options.interface)


class _FileExport:
    """Writes and checks one file."""

    def __init__(
        self,
        task: Task,
        prepared: Prepared,
        precision: Precision,
        path: Path,
        judge: FileJudge | None,
    ):
        self.task, self.prepared, self.precision, self.path = task, prepared, precision, path
        self.judge, self.limit = judge, None if judge is None else judge.record
        self.costs = Costs()
        self.quantization: Quantization | None = None
        if prepared.quantized:
            self.quantization = prepared.quantized.quantizations.get(precision.name)

    def write_and_check(self, written: _Written) -> Exported:
        """Write the file under its temporary names, and check it.

        Raises:
            CheckFailed: If a check fails.
        """
        log, path = self.task.log, self.path
        net = self._open_net(self.prepared.opened)
        artifact = Artifact(
            net.spec,
            self.task.options.input,
            self.precision.name,
            self.task.source.name,
            self.prepared.source_sha256,
            self.prepared.outputs,
            self.task.options.interface,
        )
        replaced = replaces(path, artifact, self._described())
        if replaced:
            log(f"Warning: {replaced} if the new file passes; --name gives it another name")
        return_blocks()
        log(f"writing {path}")
        self._write(onnx_graph(net, artifact, self.precision, self.quantization), written)
        del net  # its weights and ONNX Runtime's need not be in memory together
        return_blocks()
        log(f"checking {path.name} in onnx and ONNX Runtime")
        model = read_referring(*written)
        compared = Compared()
        with beside(written.graph, model, ".check.onnx") as file:
            check_onnx(file)
            rescaled = self._compare_rescaled(model)
            if self.precision.name != "fp32":
                twin = self._lint_and_check_twin(model, written.graph, artifact)
                for index, outputs in enumerate(twin):
                    if self._twin_is_compared:
                        self._compare(compared, outputs, index)
            return_blocks()
            if self.precision.trunk != BF16:
                self._run(file, compared)
        return replace(self._judged(artifact, written, compared), rescaled=rescaled)

    def _open_net(self, opened: list[VGG] | None = None) -> VGG:
        """The net as the file has it: one that is open already, or opened anew."""
        net = opened.pop() if opened else self.task.open_net()
        put_factors(net, self.prepared.factors)
        return net

    def _open_reduced(self) -> ReducedNet:
        """What the file must compute."""
        outputs = self.prepared.outputs
        return ReducedNet(self._open_net(), self.precision, self.quantization, outputs, some_rows)

    @property
    def _twin_is_compared(self) -> bool:
        """Whether the outputs for the check images, and for held-out ones, are the twin's.

        No CPU kernel runs bfloat16. ONNX Runtime computes half precision in float32, and converts
        weights in every call. The twin has the same nodes and values, which are converted once.
        """
        return self.precision.trunk != FLOAT

    @property
    def _kept(self) -> tuple[str, ...]:
        """Convolutions that are not quantized, of a quantized file."""
        if not self.quantization:
            return ()
        quantized = self.quantization.quantized
        names = (name for name in self.prepared.convolutions if name not in quantized)
        return tuple(dict.fromkeys(paper_name(name) for name in names))

    def _described(self) -> dict[str, object] | None:
        """How the file is quantized, if it is."""
        if not self.quantization or not self.prepared.quantized:
            return None
        method = self.task.options.method
        return describe_quantization(self.prepared.quantized, self.precision, self._kept, method)

    def _write(self, graph: Graph, written: _Written) -> None:
        if written.data:
            write_with_data(written.graph, graph, written.data, data_path(self.path).name)
        else:
            write_onnx(written.graph, graph)

    def _lint_and_check_twin(
        self, model: ModelProto, written: Path, artifact: Artifact
    ) -> Iterator[Outputs]:
        """Outputs of a reduced file's float32 twin for the check images. Changes `model`."""
        quantized: set[str] = set()
        if self.quantization:
            own = self.quantization.quantized
            quantized = {name for name in self.prepared.convolutions if name in own}
        findings = lint(model, self.precision, quantized, self.prepared.ranges, written.parent)
        if findings:
            raise CheckFailed("; ".join(findings))

        def measure(twin: Twin) -> None:
            if self._twin_is_compared:
                self._measure_costs(TwinRuntime(twin, artifact))

        with float32_twin(model, written) as twin:
            yield from check_twin(
                twin,
                self._open_reduced,
                self.task.options.input,
                self.prepared.check_images,
                self.task.threads,
                self.path.name,
                self.prepared.seen,
                measure,
            )

    def _run(self, file: Path, compared: Compared) -> None:
        """Run a file in ONNX Runtime: compare its outputs, and measure its cost."""
        name, options, threads = self.path.name, self.task.options, self.task.threads
        batches = self.prepared.check_images
        held_out = self.prepared.quantized.held_out if self.prepared.quantized else None
        if self.precision.fused:
            check_arithmetic(file, threads, name)
        if self.precision.block and held_out:
            images = next(fixed_batches(held_out.batches[0][:2], options.interface.count))
            check_products(file, images, options.input, threads, name)
        runtime = _as_it_will_run(file, self.precision, threads)
        sizes = {index: batch.size for index, batch in enumerate(batches)}
        if self._twin_is_compared:  # the file itself then shows that ONNX Runtime runs it
            alone = (index for index, batch in enumerate(batches) if len(batch) == 1)
            self._run_once(runtime, max(alone, key=sizes.__getitem__))
        else:  # the largest run first: they need most memory, and fc6's weights are not yet read
            for index in sorted(sizes, key=sizes.__getitem__, reverse=True):
                self._compare(compared, runtime.run(batches[index], runtime.outputs), index)
            self._measure_costs(runtime)
        if self.judge:
            self.judge.judge(runtime)

    def _measure_costs(self, runtime: GivesOutputs) -> None:
        """Measure and judge what a quantized file costs on the held-out images."""
        held_out = self.prepared.quantized.held_out if self.prepared.quantized else None
        if not (self.quantization or self.prepared.factors) or not held_out:
            return
        name, log, most = self.path.name, self.task.log, self.task.options.max_cost
        log(f"measuring the cost of {name} on held-out images")
        self.costs = measure_costs(runtime, held_out, self.task.open_net, name)
        if self.costs.scores:
            judge_cost(self.costs.scores, most, log, name)
        judge_feature_costs(self.costs.features, most, log, name)

    def _run_once(self, runtime: OnnxRuntime, index: int) -> None:
        """Run the file itself on one batch of check images, and judge its outputs."""
        compared = Compared()
        batch = self.prepared.check_images[index]
        self._compare(compared, runtime.run(batch, runtime.outputs), index)
        judge_consistent(compared.scores, self.path)
        if not self.quantization:
            judge_reduced(compared.scores, self.precision.name, self.path)
            judge_reduced_features(compared.features, self.precision.name, self.path)

    def _compare_rescaled(self, model: ModelProto) -> RescaleParity | None:
        """Compare the pixels that a file of whole images makes with Pillow's."""
        if self.task.options.whole_images is None:
            return None
        found = compare_rescaled(model, self.prepared.check_images, self.prepared.seen)
        judge_rescaled(found, self.path.name)
        return found

    def _compare(self, compared: Compared, found: Outputs, index: int) -> None:
        """Compare one batch of check images with PyTorch."""
        reference, batch = self.prepared.reference[index], self.prepared.check_images[index]
        compared.add(index, found, reference, batch)

    def _judged(self, artifact: Artifact, written: _Written, compared: Compared) -> Exported:
        """The file, if its outputs are good enough."""
        scores, features = compared.scores, compared.features
        if self.precision.name == "fp32":
            judge_exact(scores, self.path)
            judge_exact_features(features, self.path)
        judge_consistent(scores, self.path)
        if not self.quantization:
            judge_reduced(scores, self.precision.name, self.path)
            judge_reduced_features(features, self.precision.name, self.path)
        return Exported(
            self.path,
            artifact,
            written.size,
            scores,
            self._kept,
            cost=self.costs.scores,
            features=tuple(features),
            feature_costs=tuple(self.costs.features),
            limit=self.limit,
            checked="float32 twin" if self._twin_is_compared else "file",
        )


def _as_it_will_run(path: Path, precision: Precision, threads: int) -> OnnxRuntime:
    """Open a file in ONNX Runtime.

    A file for its CPU kernels runs with the settings of use, because these kernels are checked, and
    so does one with 4-bit weights. Others run with less memory.
    """
    if precision.fused or precision.block:
        return OnnxRuntime(path, threads=threads)
    return OnnxRuntime(path, threads=threads, optimisation="ENABLE_EXTENDED", arena=False)
