"""Runs vgg-predict: decodes in processes, scores in batches, writes results in order."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from bench.localisation.box_nets import BoxNet, open_box_nets
from bench.predict.box_files import BoxFiles, box_files
from bench.predict.map_files import save_maps
from bench.predict.photos import MOST_BYTES, STDIN, Photos, find_photos
from bench.predict.request import PredictRequest
from bench.predict.writers import check_parquet, writer
from vgg_deploy.command_line import say
from vgg_deploy.data.decode_pool import Scale, decoded
from vgg_deploy.errors import InputError
from vgg_deploy.exported.signatures import VerifyingKey
from vgg_deploy.machine import available_cores
from vgg_deploy.net.named_weights import locate
from vgg_deploy.net.spec import numbered
from vgg_deploy.predict.model import Model, load
from vgg_deploy.predict.predictions import Prediction, prediction
from vgg_deploy.predict.stream import Pixels, Scored, ViewPlan, posteriors
from vgg_deploy.predict.whole_images import filter_for, rescales
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
    plan = ViewPlan.for_runtime(
        model.runtime, request.protocol, request.sides, request.flips, request.batch
    )
    if request.boxes and rescales(model.runtime):
        raise InputError(
            f"{request.model}: takes whole images, and --boxes-by needs them rescaled; use the "
            "weights or a file without --whole-images"
        )
    if others:
        _note(f"Ignored {others} files in folders that are not images by their names")
    box_net = _open_box_net(request)
    skipped = _Run(request, model, photos, plan, box_net).write()
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


def _open_box_net(request: PredictRequest) -> BoxNet | None:
    if request.boxes_by is None:
        return None
    threads = request.threads or available_cores()
    (box_net,) = open_box_nets([request.boxes_by], (), request.device, threads)
    return box_net


class _Run:
    """One pass over all images."""

    def __init__(
        self,
        request: PredictRequest,
        model: Model,
        photos: Photos,
        plan: ViewPlan,
        box_net: BoxNet | None,
    ):
        self.request, self.model, self.photos, self.plan = request, model, photos, plan
        self.box_net = box_net
        self.skipped = 0
        self.held: dict[int, Pixels] = {}  # for maps and boxes, until their image is scored

    def write(self) -> int:
        """Score and write; returns how many images were skipped."""
        request = self.request
        started = time.monotonic()
        with ExitStack() as stack:
            write = stack.enter_context(writer(request.format, request.out))
            boxes = self._box_files(stack)
            bar = self._bar(stack)
            results = posteriors(self.model.runtime, self._images(), self.plan)
            for done, one in enumerate(results, start=1):
                if isinstance(one.posterior, InputError):
                    self._skip(one.posterior)
                else:
                    name = self.photos.where(one.number)
                    best = prediction(name, one.posterior, self.model.spec, request.top)
                    write(best)
                    self._draw(one, one.posterior, best, boxes)
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
        filter = filter_for(self.model.runtime)
        everything = np.ones(len(self.photos), bool)
        wanted = {Scale(side, filter): everything for side in self.plan.sides}
        for number, scaled in decoded(self.photos, wanted, self.model.runtime.threads):
            if isinstance(scaled, InputError):
                yield scaled
                continue
            # copied, because the decoder uses its memory again
            pixels = {scale.side: array.copy() for scale, array in scaled.items()}
            if self.request.maps or self.request.boxes:
                self.held[number] = pixels
            yield pixels

    def _skip(self, error: InputError) -> None:
        if self.request.on_error == "stop":
            raise error
        self.skipped += 1
        _note(f"Skipped: {error.what}")

    def _box_files(self, stack: ExitStack) -> BoxFiles | None:
        if self.box_net is None or self.request.boxes is None:
            return None
        return stack.enter_context(box_files(self.request.boxes, self.model, self.box_net))

    def _draw(
        self, one: Scored, posterior: np.ndarray, best: Prediction, boxes: BoxFiles | None
    ) -> None:
        """Save the pictures of an image that were asked for."""
        if not (self.request.maps or boxes):
            return
        image = self.held.pop(one.number)
        if self.request.maps:
            first = int(posterior.argmax())
            maps, runtime = self.request.maps, self.model.runtime
            save_maps(maps, one.number, best.image, image, first, runtime)
        if boxes:
            boxes.save(one.number, best, image, self.photos.read(one.number))


def _note(text: str) -> None:
    say(text, err=True)
