"""The weights to blame for a change of the signal's scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, Generic, TypeVar

from initlint.analysis.signal_path import (
    LOUD,
    WEIGHTS,
    GradientPath,
    Stretch,
    backward_level,
    gradient_paths,
    is_rescaled,
    sources,
    step_gain,
    stretches,
    upstream,
    variation,
    weights,
)

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Signal, Tensor, UsedTensor


Way = TypeVar("Way", Stretch, GradientPath)


@dataclass(frozen=True, slots=True)
class Trend(Generic[Way]):
    """What becomes of a signal or gradient on one way, and the weights to blame for it."""

    way: Way
    factor: float  # per layer
    change: float  # over all layers
    culprits: tuple[Tensor, ...]


def signal_trends(model: Evidence, *, falling: bool) -> Iterator[Trend[Stretch]]:
    """How the signal falls (grows) on each way to an output, where weights make it smaller (larger)."""
    for way in stretches(model):
        changes = ((step, log(step_gain(model, step))) for step in way.steps)
        factor, change = (way.growth, way.change) if falling else way.rise
        if blamed := _blamed(model, changes, falling=falling):
            yield Trend(way, factor, change, blamed)


def gradient_trends(model: Evidence, *, falling: bool) -> Iterator[Trend[GradientPath]]:
    """Likewise the gradient on each way back; a weight that is normalised does not make it grow."""
    for way in gradient_paths(model):
        changes = (
            (step, backward_level(before) - backward_level(step)) for before, step in pairwise(way.steps)
        )
        blamed = _blamed(model, changes, falling=falling)
        if not falling:
            blamed = tuple(weight for weight in blamed if not weight.use or not weight.use.normalised_after)
        if blamed:
            yield Trend(way, way.growth, way.change, blamed)


def _blamed(model: Evidence, changes: Iterable[tuple[Signal, float]], *, falling: bool) -> tuple[Tensor, ...]:
    """The weights of all steps with a change below (above) zero, in order of execution."""
    steps = [step for step, change in changes if (change < 0 if falling else change > 0)]
    return tuple({weight.name: weight for step in steps for weight in weights(model, step)}.values())


def writers(model: Evidence, signal: Signal) -> tuple[Tensor, ...]:
    """The parameters that decide a signal, the one to look at first in front.

    They are those of the nearest signal upstream that has any (of several, the largest), unless another one
    before it, with no normalisation in between, multiplied the signal more. A shift that outweighs what
    differs between inputs comes before the weight.
    """
    nearest = max(_nearest(model, signal), key=lambda s: s.forward.rms, default=None)
    if nearest is None:
        return ()
    found = model.named(nearest.weights)
    owners, names = {t.owner for t in found if t.owner}, set(nearest.weights)
    shifts = [
        t
        for t in model.used_parameters
        if _offset(t) > variation(nearest) and (t.owner in owners or _shifts(t) & names)
    ]
    found += tuple(t for t in shifts if t.name not in nearest.weights)
    if not shifts:
        steps = [s for s in _path_up(model, nearest) if s.kind == "weight" and weights(model, s)]
        loudest = max((nearest, *steps), key=lambda s: step_gain(model, s))
        if step_gain(model, loudest) > LOUD:
            found = model.named(loudest.weights)
    first = {t.name for t in shifts}
    matrices = {t.name for t in found if t.use is not None and t.use.role in WEIGHTS}
    return tuple(sorted(found, key=lambda t: (t.name not in first, t.name not in matrices)))


def _nearest(model: Evidence, signal: Signal) -> Iterator[Signal]:
    """The signals with parameters from which this one is made, through those that have none."""
    stack, seen = [signal], {signal.node}
    while stack:
        current = stack.pop()
        if current.weights:
            yield current
            continue
        for source in sources(model, current):
            if source.node not in seen:
                seen.add(source.node)
                stack.append(source)


def _offset(tensor: UsedTensor) -> float:
    shift = tensor.use.role == "shift" or tensor.use.operation in ("aten.add", "aten.sub")
    return tensor.statistics.rms if shift else 0.0


def _shifts(tensor: UsedTensor) -> set[str]:
    """The weights whose outputs a tensor is added to, or subtracted from."""
    return set(tensor.use.wiring.sources) if tensor.use.role in ("shift", "scalar") else set()


def _path_up(model: Evidence, signal: Signal) -> Iterator[Signal]:
    """This signal and what it is mostly made of, as far as the scale is not set anew."""
    current: Signal | None = signal
    while current is not None:
        yield current
        current = None if is_rescaled(model, current) or current.kind == "input" else upstream(model, current)
