"""The weights to blame for a change of the signal's scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from initlint.analysis.signal_path import (
    LOUD,
    WEIGHTS,
    backward_level,
    gain,
    renewed,
    sources,
    spread,
    upstream,
    weights,
)

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Signal, Tensor, UsedTensor


def culprits(model: Evidence, steps: Iterable[Signal], *, falling: bool) -> tuple[Tensor, ...]:
    """The weights of all steps that make the signal smaller (larger), in order of execution."""
    found: dict[str, Tensor] = {}
    for step in steps:
        factor = gain(model, step)
        if (factor < 1) if falling else (factor > 1):
            found |= {t.name: t for t in weights(model, step)}
    return tuple(found.values())


def backward_culprits(model: Evidence, steps: Sequence[Signal], *, falling: bool) -> tuple[Tensor, ...]:
    """The weights of all steps behind which the gradient is smaller (larger) than before them."""
    found: dict[str, Tensor] = {}
    for before, step in pairwise(steps):
        change = backward_level(before) - backward_level(step)
        if (change < 0) if falling else (change > 0):
            found |= {t.name: t for t in weights(model, step)}
    return tuple(found.values())


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
        if _offset(t) > spread(nearest) and (t.owner in owners or _shifts(t) & names)
    ]
    found += tuple(t for t in shifts if t.name not in nearest.weights)
    if not shifts:
        steps = [s for s in _way_up(model, nearest) if s.kind == "weight" and weights(model, s)]
        loudest = max((nearest, *steps), key=lambda s: gain(model, s))
        if gain(model, loudest) > LOUD:
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


def _way_up(model: Evidence, signal: Signal) -> Iterator[Signal]:
    """This signal and what it is mostly made of, as far as the scale is not set anew."""
    current: Signal | None = signal
    while current is not None:
        yield current
        current = None if renewed(model, current) or current.kind == "input" else upstream(model, current)
