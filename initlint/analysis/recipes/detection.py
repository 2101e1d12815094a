"""Dense sigmoid heads that start at the prior of a rare class."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from initlint.analysis.recipes.recipe import Deviation, Recipe, outputs, writes

if TYPE_CHECKING:
    from initlint.evidence import Evidence, UsedTensor, Weight

#: Priors in use: 0.01 in RetinaNet, 0.1 in CenterNet, down to 1/1000 objects a cell in one-stage detectors.
RAREST, COMMONEST = 1e-4, 0.25
#: Where a head gives logits, only its name tells classes from boxes.
CLASSES = re.compile(
    r"(^|[._])(cls|class(es|ifier|ification)?|labels?|scores?|heat_?maps?|hm|obj(ectness)?|conf)", re.I
)
BOXES = re.compile(r"(^|[._])(b?box(es)?|reg(ression)?|wh|sizes?|offsets?|deltas?|ltrb|loc(ation)?)", re.I)
BOX = 4  # outputs of a layer that predicts one box


@dataclass(frozen=True, slots=True)
class Head:
    """A layer of which every position of the output is a prediction."""

    weight: Weight
    bias: UsedTensor
    sigmoid: bool
    place: tuple[int, ...]  # extents of the map, (0,) for a set of queries

    @property
    def classes(self) -> bool:
        """Tells which class it is; a single map only by its name."""
        if BOXES.search(self.weight.name):
            return False
        if self.place == (0,):
            return self.sigmoid and (outputs(self.weight) > BOX or bool(CLASSES.search(self.weight.name)))
        return bool(CLASSES.search(self.weight.name)) or (self.sigmoid and outputs(self.weight) > 1)

    @property
    def prior(self) -> float:
        """Probability of every class before the features say anything."""
        return 1 / (1 + math.exp(-max(min(self.bias.statistics.mean, 50.0), -50.0)))

    @property
    def rare(self) -> bool:
        """The bias is a constant that stands for the prior of a rare class."""
        return self.bias.statistics.constant and RAREST <= self.prior <= COMMONEST


def _heads(model: Evidence) -> list[Head]:
    heads = []
    for weight in model.weights:
        use, bias = weight.use, model.bias_of(weight)
        if not use.reaches_output or bias is None:
            continue
        signal = model.output_of(weight)
        shape = signal.shape if signal is not None else ()
        if use.role == "kernel" and len(shape) >= 4 and math.prod(shape[2:]) > 1:
            heads.append(Head(weight, bias, use.activation == "sigmoid", shape[2:]))
        elif use.role == "matrix":
            heads.append(Head(weight, bias, use.activation == "sigmoid", (0,)))
    queries = [h for h in heads if h.place == (0,)]
    if not any(outputs(h.weight) == BOX for h in queries):
        heads = [h for h in heads if h not in queries]
    return heads


def _sigmoid_meant(model: Evidence, head: Head) -> bool:
    """The file that makes the layer speaks of sigmoids: a softmax over classes has no prior to start at."""
    owner = model.modules_by_path.get(head.weight.owner)
    return owner is not None and owner.sigmoid


def _deviations(model: Evidence) -> Iterator[Deviation]:
    heads = _heads(model)
    classes = [h for h in heads if h.classes]
    others = [h for h in heads if not h.classes]
    missing = [h for h in classes if not h.rare and h.prior > COMMONEST]
    rare = [h for h in classes if h.rare]
    for head in missing:
        beside = [h for h in others if h.place == head.place]
        if not beside:
            continue
        astray = next((h for h in beside if h.rare), None)
        boxes = any(BOXES.search(h.weight.name) for h in beside)
        if astray is None and not head.sigmoid and not (boxes and _sigmoid_meant(model, head)):
            continue
        if astray is not None:
            more = f"; {astray.bias.name}, which predicts no class, has the bias of {astray.prior:.2g}"
        elif rare:
            more = f"; {rare[0].bias.name} starts at {rare[0].prior:.2g}"
        else:
            more = ""
        yield Deviation(
            subject=head.bias,
            message=f"every position starts at probability {head.prior:.2g} for each of "
            f"{outputs(head.weight)} classes{'' if head.sigmoid else ' if a sigmoid follows'}{more}",
            help="fill the bias of the class head with -log((1 - p)/p), p = 0.01",
            measured={"probability": head.prior},
            expected={"probability": f"{RAREST:g} to {COMMONEST:g}"},
            harms=astray is not None or bool(rare),
            related=(astray.bias.name,) if astray is not None else (),
            site=astray.bias.site if astray is not None else None,
            locations=writes((head.bias, rare[0].bias if rare else None), "writes a bias of a class head"),
        )


PRIOR = Recipe(
    name="class prior",
    asks="the bias of a dense sigmoid class head is -log((1 - p)/p) with a small p",
    reference="Lin et al., Focal Loss for Dense Object Detection, 2017, sections 3.3 and 4.1",
    deviations=_deviations,
)
