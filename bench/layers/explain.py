"""Explains a pair of answers to one image: which layer moved the scores, and how far.

If a file's values behind layer l are given to the float32 net's layers after l, the difference of
two scores is the lead that is left behind l. Its change from one part to the next is what that part
did, and all changes add up exactly to the difference of the two models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.layers.contract import LayerValues, NotSeparable
from bench.layers.parts import part_name
from bench.layers.reference import FloatNet
from bench.layers.rounding_bounds import expected
from bench.models.model import Model

NAN = float("nan")


@dataclass(frozen=True)
class LayerEffect:
    """What one part does to one image's answer; columns of explained_layers.csv."""

    image: str
    model: str
    runtime: str
    precision: str
    side_px: int
    layer: str
    of_bound: float  # largest error of its output over the bound of its rounding
    change: float  # of the lead by this part alone
    lead: float  # what is left of it behind the part


@dataclass(frozen=True)
class Explained:
    """An image's answers by the float32 net and by a file; columns of explained.csv."""

    image: str
    reference: str
    model: str
    runtime: str
    precision: str
    side_px: int
    reference_best: str  # id of the float32 net's best class
    model_best: str  # of the file's
    rival: str  # the class that the lead is over: the file's best, else the float32 net's second
    margin: float  # lead of reference_best over rival in the float32 net's mean scores
    change: float  # of the lead by the file; the answer differs if the margin is lost
    beyond: str  # first part whose error leaves its rounding bound; empty if none does
    largest_of_bound: float
    most: str  # the part that changes the lead most
    most_change: float
    crosses: str  # first part behind which the lead stays lost; empty if it is not lost

    @property
    def differs(self) -> bool:
        """Whether the two answers differ."""
        return self.reference_best != self.model_best

    def sentence(self) -> str:
        """The explanation in words."""
        who = f"{self.image} at Q {self.side_px}: {self.model} ({self.runtime} {self.precision})"
        if self.differs:
            answers = f"answers {self.model_best}, {self.reference} {self.reference_best}"
        else:
            answers = f"and {self.reference} both answer {self.model_best} in this view"
        lead = (
            f"The margin over {self.rival} is {self.margin:.3g}; the file changes it by "
            f"{self.change:+.3g}."
        )
        if self.beyond:
            cause = (
                f"{self.beyond} is the first layer whose error leaves its rounding bound "
                f"({self.largest_of_bound:.2g} times the bound at most): rounding does not explain "
                "it."
            )
        elif np.isnan(self.largest_of_bound):
            cause = "The bounds of its roundings are not known here."
        else:
            cause = (
                f"Every layer stays within its rounding bound (at most {self.largest_of_bound:.2f} "
                "of it): roundings that add up."
            )
        most = f"{self.most} changes the margin most ({self.most_change:+.3g})"
        crosses = f"; it is lost for good behind {self.crosses}" if self.crosses else ""
        return f"{who} {answers}. {lead} {cause} {most}{crosses}."


def explain(
    model: Model, values: LayerValues, net: FloatNet, image: np.ndarray, name: str
) -> tuple[Explained, list[LayerEffect]]:
    """Explain one image.

    Args:
        model: A file.
        values: The values between its layers.
        net: The float32 net of its weights.
        image: (1, 3, H, W) uint8 RGB.
        name: Of the image.

    Returns:
        The explanation, and what each part does, in running order.
    """
    shown = values.all_values(image)
    start = net.start(image)
    exact = net.scores_after(net.layers[-1], net.part(net.layers, start))[0]
    leads = _scores_behind(values, net, shown)
    classes = model.runtime.spec.classes
    best, found = int(exact.argmax()), int(leads[-1].argmax())
    rival = found if found != best else int(np.argsort(exact, kind="stable")[-2])
    side = min(image.shape[2:])
    effects = []
    taken, lead = np.ascontiguousarray(start.cpu().numpy()), float(exact[best] - exact[rival])
    margin = lead
    for index, part in enumerate(values.parts):
        left = float(leads[index][best] - leads[index][rival])
        ratio = _of_bound(values, net, index, taken, shown)
        effects.append(
            LayerEffect(
                name,
                **model.described,
                side_px=side,
                layer=part_name(part),
                of_bound=ratio,
                change=left - lead,
                lead=left,
            )
        )
        taken, lead = shown[index], left
    return _concluded(effects, model, net.name, classes, (best, found, rival), margin), effects


def _concluded(
    effects: Sequence[LayerEffect],
    model: Model,
    reference: str,
    classes: Sequence[str],
    answers: tuple[int, int, int],
    margin: float,
) -> Explained:
    """What the effects of all parts say together."""
    best, found, rival = answers
    beyond = next((e.layer for e in effects if e.of_bound > 1), "")
    most = max(effects, key=lambda effect: abs(effect.change))
    kept = [index for index, effect in enumerate(effects) if effect.lead > 0]
    lost_from = kept[-1] + 1 if kept else 0
    ratios = [effect.of_bound for effect in effects]
    return Explained(
        effects[0].image,
        reference,
        **model.described,
        side_px=effects[0].side_px,
        reference_best=classes[best],
        model_best=classes[found],
        rival=classes[rival],
        margin=margin,
        change=effects[-1].lead - margin,
        beyond=beyond,
        largest_of_bound=NAN if np.isnan(ratios).all() else float(np.nanmax(ratios)),
        most=most.layer,
        most_change=most.change,
        crosses=effects[lost_from].layer if lost_from < len(effects) else "",
    )


def _scores_behind(
    values: LayerValues, net: FloatNet, shown: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """(classes,) float64 mean scores for each part, if the float32 net continues behind it."""
    return [
        net.scores_after(part[-1], net.on_device(given))[0]
        for part, given in zip(values.parts, shown, strict=True)
    ]


def _of_bound(
    values: LayerValues, net: FloatNet, index: int, taken: np.ndarray, shown: Sequence[np.ndarray]
) -> float:
    """Largest error of a part over its bound; NaN where the file does not show its rounding."""
    part = values.parts[index]
    try:
        rounding = values.rounding(part)
    except NotSeparable:
        return NAN
    return expected(net, part, taken, rounding).excess(shown[index])
