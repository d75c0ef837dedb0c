"""Runs vgg-features: decodes in processes, describes images shard by shard, writes the shards."""

import json
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np

from bench.features.request import FeaturesRequest
from bench.predict.writers import check_parquet
from vgg_deploy.command_line import say
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale, decoded
from vgg_deploy.data.open_data import open_data
from vgg_deploy.data.remote import Unreachable
from vgg_deploy.data.rotated import rotation_line
from vgg_deploy.data.unlabelled import open_unlabelled
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import content_sha256
from vgg_deploy.exported.signatures import VerifyingKey
from vgg_deploy.features.settings import FeatureData, FeatureModel, FeatureSettings
from vgg_deploy.features.writer import FeatureWriter, feature_writer
from vgg_deploy.job import Job
from vgg_deploy.machine import available_cores
from vgg_deploy.net.named_weights import locate
from vgg_deploy.predict.descriptors import DescriptorPlan, Row, descriptors
from vgg_deploy.predict.model import Model, load
from vgg_deploy.predict.stream import Pixels
from vgg_deploy.progress import Bar, progress

STATE = "state another with --mean, --std, --channel-order"
TURN = "--exif apply turns them upright"


def write_features(request: FeaturesRequest, job: Job) -> None:
    """Describe all images that no whole shard has, each process its share of the shards.

    Args:
        request: The options.
        job: The processes of the run.

    Raises:
        InputError: For what cannot be used, for a folder with other features, or for an unreadable
            image, unless they are skipped.
        CheckFailed: For descriptors that are not finite.
    """
    if request.form == "parquet":
        check_parquet()
    model = job.main_first(_open_model, request, job)
    runtime = model.runtime
    plan = DescriptorPlan.of(
        runtime,
        request.layers,
        request.sides,
        request.flips,
        request.over_scales,
        request.l2,
        request.batch,
    )
    dataset = job.on_main(_open_images, request)
    settings = job.on_main(_settings, request, model, dataset, plan)
    with feature_writer(request.out, settings, job) as writer:
        missing = sum(job.gather(len(writer.shards)))
        say(_start_line(model, dataset, plan, job))
        if whole := settings.shard_count - missing:
            say(f"{whole} of {settings.shard_count} shards are in {request.out} already")
        skipped = job.gather(_Share(request, model, dataset, plan, writer).write())
        writer.finish()
    if any(skipped):
        say(f"Skipped {sum(skipped)} of {len(dataset)} images, unreadable")
    widths = ", ".join(f"{layer} ({width} numbers)" for layer, width in settings.layers.items())
    count = settings.shard_count
    say(f"{request.out}: {widths}; {count} shard{'s' if count > 1 else ''}")


def _open_model(request: FeaturesRequest, job: Job) -> Model:
    """Open the model; the main process reports what its file leaves open."""
    if request.verify:
        VerifyingKey(request.verify).verify(locate(request.model).path)
    model = load(
        request.model,
        device=request.device,
        threads=request.threads or max(1, available_cores() // job.local_world),
        runtime=request.runtime,
        precision=request.precision,
        stated=request.stated,
    )
    if model.located.line:
        say(model.located.line)
    for line in model.assumed.lines(str(request.model), STATE) if model.assumed else ():
        say(line)
    return model


def _open_images(request: FeaturesRequest) -> Dataset:
    """List the images, with labels if they have any."""
    if request.no_labels:
        dataset = open_unlabelled(request.data, request.on_error)
    else:
        dataset = open_data(request.data, request.split, request.on_error)
    if dataset.skipped:
        say(f"Ignored {len(dataset.skipped)} files that are not images by their names")
    dataset = replace(dataset, upright=request.exif == "apply")
    if line := rotation_line(dataset, TURN):
        say(line)
    return dataset


def _settings(
    request: FeaturesRequest, model: Model, dataset: Dataset, plan: DescriptorPlan
) -> FeatureSettings:
    """What the folder will contain."""
    runtime = model.runtime
    artifact = json.loads(runtime.artifact.to_json()) if runtime.artifact else {}
    return FeatureSettings(
        model=FeatureModel(
            name=_text(model.located.name),
            sha256=content_sha256(model.path),
            arch=model.spec.arch,
            runtime=runtime.name,
            precision=runtime.precision,
            artifact=artifact,
            input=model.assumed.input if model.assumed else "",
        ),
        data=FeatureData(_text(str(dataset.root)), dataset.fingerprint()),
        layers=plan.widths(model.spec),
        scales=plan.sides,
        flips=plan.flips,
        joined=plan.over_scales,
        l2=plan.l2,
        count=len(dataset),
        images_per_shard=request.images_per_shard,
        form=request.form,
    )


def _text(name: str) -> str:
    """A name without halves of characters, which file names may have."""
    return name.encode("utf-8", "backslashreplace").decode()


def _start_line(model: Model, dataset: Dataset, plan: DescriptorPlan, job: Job) -> str:
    """What is about to be described, by what."""
    runtime = model.runtime
    processes = f"{job.world} processes, each with " if job.world > 1 else ""
    return (
        f"{', '.join(plan.layers)} of {len(dataset)} images at Q {', '.join(map(str, plan.sides))}:"
        f" {runtime.name} {runtime.precision} on {runtime.device}, {processes}"
        f"{runtime.threads} threads"
    )


class _Share:
    """One pass of a process over its shards."""

    def __init__(
        self,
        request: FeaturesRequest,
        model: Model,
        dataset: Dataset,
        plan: DescriptorPlan,
        writer: FeatureWriter,
    ):
        self.request, self.model, self.dataset = request, model, dataset
        self.plan, self.writer = plan, writer
        self.skipped = 0

    def write(self) -> int:
        """Describe and write; returns how many images were skipped."""
        wanted = np.zeros(len(self.dataset), bool)
        for shard in self.writer.shards:
            mine = self.writer.settings.images_of(shard)
            wanted[mine.start : mine.stop] = True
        count = int(wanted.sum())
        if not count:
            return 0
        self.started, self.done = time.monotonic(), 0
        with (
            closing(self._images(wanted)) as images,
            progress(f"{count:,} images", count) as bar,
        ):
            for shard in self.writer.shards:
                self._write_shard(shard, images, bar)
        return self.skipped

    def _write_shard(self, shard: int, images: Iterator[Pixels | InputError], bar: Bar) -> None:
        """Describe the next images, which are those of a shard, and write it.

        No batch has images of two shards, so a shard does not depend on where a run began.
        """
        mine = self.writer.settings.images_of(shard)
        described: list[tuple[int, Row]] = []
        found = descriptors(self.model.runtime, islice(images, len(mine)), self.plan)
        for index, row in zip(mine, found, strict=True):
            if isinstance(row, InputError):
                self._skip(row)
            else:
                described.append((index, row))
            self.done += 1
            bar.advance(1, f"{self.done / (time.monotonic() - self.started):.1f} images/s")
        indices = [index for index, _ in described]
        rows = {
            layer: np.array([row[layer] for _, row in described], np.float32).reshape(-1, width)
            for layer, width in self.writer.settings.layers.items()
        }
        names = [self.dataset.files[index] for index in indices]
        self.writer.write(shard, names, [self._class_of(index) for index in indices], rows)

    def _images(self, wanted: np.ndarray) -> Generator[Pixels | InputError, None, None]:
        """Decode some images at every Q, in their order."""
        filter = self.model.spec.preprocessing.filter
        scales = {Scale(side, filter): wanted for side in self.plan.sides}
        for _, scaled in decoded(self.dataset, scales, self.model.runtime.threads):
            if isinstance(scaled, InputError):
                yield scaled
            else:  # copied, because the decoder uses its memory again
                yield {scale.side: array.copy() for scale, array in scaled.items()}

    def _class_of(self, index: int) -> str:
        """Id of an image's class; empty without labels."""
        dataset = self.dataset
        return dataset.classes[dataset.labels[index]] if dataset.labelled else ""

    def _skip(self, error: InputError) -> None:
        if self.request.on_error == "stop" or isinstance(error, Unreachable):
            raise error
        self.skipped += 1
        say(f"Skipped: {error.what}", err=True)
