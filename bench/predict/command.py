"""Runs vgg-predict: decodes in processes, scores in batches, writes results in order."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from bench.predict.map_files import save_maps
from bench.predict.photos import MOST_BYTES, STDIN, Photos, find_photos
from bench.predict.request import PredictRequest
from bench.predict.writers import check_parquet, writer
from vgg_deploy.command_line import say
from vgg_deploy.data.decode_pool import Scale, decoded
from vgg_deploy.errors import InputError
from vgg_deploy.exported.signatures import VerifyingKey
from vgg_deploy.net.named_weights import locate
from vgg_deploy.net.spec import numbered
from vgg_deploy.predict.model import Model, load
from vgg_deploy.predict.predictions import prediction
from vgg_deploy.predict.stream import Pixels, Scored, ViewPlan, posteriors
from vgg_deploy.progress import Bar, progress

STATE = "state another with --mean, --std, --channel-order"


def predict(request: PredictRequest) -> None:
    """Classify all images, and write one result after another.

    Args:
        request: The options.

    Raises:
        InputError: For what cannot be used; also for an unreadable image, unless they are skipped.
        CheckFailed: For posteriors that are not finite.
    """
    if request.format == "parquet":
        check_parquet()
    photos, others = find_photos(request.inputs, _standard_input(request.inputs))
    model = _open_model(request)
    plan = ViewPlan.of(model.spec, request.protocol, request.sides, request.flips, request.batch)
    if others:
        _note(f"Ignored {others} files in folders that are not images by their names")
    skipped = _Run(request, model, photos, plan).write()
    if skipped:
        _note(f"Skipped {skipped} of {len(photos)} images, unreadable")
    if skipped == len(photos):
        raise InputError(f"none of the {skipped} images can be read")


def _standard_input(inputs: tuple[str, ...]) -> bytes:
    if STDIN not in inputs:
        return b""
    data = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise InputError(f"standard input has more than {MOST_BYTES // 2**20} MiB; give one image")
    return data


def _open_model(request: PredictRequest) -> Model:
    """Open the model, and report what its file leaves open."""
    if request.verify:
        VerifyingKey(request.verify).verify(locate(request.model).path)
    model = load(
        request.model,
        classes=request.classes,
        device=request.device,
        threads=request.threads,
        runtime=request.runtime,
        precision=request.precision,
        stated=request.stated,
    )
    if model.located.line:
        _note(model.located.line)
    if model.assumed:
        for line in model.assumed.lines(str(request.model), STATE):
            _note(line)
    if model.classes == numbered(len(model.classes)) and not model.classes_stated:
        _note(
            f"{request.model} names no classes: they are numbered from 0 in the order of its "
            "scores; --classes FILE names them"
        )
    return model


class _Run:
    """One pass over all images."""

    def __init__(self, request: PredictRequest, model: Model, photos: Photos, plan: ViewPlan):
        self.request, self.model, self.photos, self.plan = request, model, photos, plan
        self.skipped = 0
        self.held: dict[int, Pixels] = {}  # for the maps, until their image is scored

    def write(self) -> int:
        """Score and write; returns how many images were skipped."""
        request = self.request
        started = time.monotonic()
        with ExitStack() as stack:
            write = stack.enter_context(writer(request.format, request.out))
            bar = self._bar(stack)
            results = posteriors(self.model.runtime, self._images(), self.plan)
            for done, one in enumerate(results, start=1):
                if isinstance(one.posterior, InputError):
                    self._skip(one.posterior)
                else:
                    name = self.photos.where(one.number)
                    write(prediction(name, one.posterior, self.model.spec, request.top))
                    self._save_maps(one, one.posterior, name)
                if bar:
                    seconds = time.monotonic() - started
                    bar.advance(1, f"{done / seconds:.1f} images/s")
        return self.skipped

    def _bar(self, stack: ExitStack) -> Bar | None:
        """A bar, unless the results themselves run over the terminal."""
        if self.request.out is None and sys.stdout.isatty():
            return None
        label = f"{len(self.photos):,} images"
        return stack.enter_context(progress(label, len(self.photos)))

    def _images(self) -> Iterator[Pixels | InputError]:
        filter = self.model.spec.preprocessing.filter
        everything = np.ones(len(self.photos), bool)
        wanted = {Scale(side, filter): everything for side in self.plan.sides}
        for number, scaled in decoded(self.photos, wanted, self.model.runtime.threads):
            if isinstance(scaled, InputError):
                yield scaled
                continue
            # copied, because the decoder uses its memory again
            pixels = {scale.side: array.copy() for scale, array in scaled.items()}
            if self.request.maps:
                self.held[number] = pixels
            yield pixels

    def _skip(self, error: InputError) -> None:
        if self.request.on_error == "stop":
            raise error
        self.skipped += 1
        _note(f"Skipped: {error.what}")

    def _save_maps(self, one: Scored, posterior: np.ndarray, name: str) -> None:
        if self.request.maps:
            image, best = self.held.pop(one.number), int(posterior.argmax())
            save_maps(self.request.maps, one.number, name, image, best, self.model.runtime)


def _note(text: str) -> None:
    say(text, err=True)
