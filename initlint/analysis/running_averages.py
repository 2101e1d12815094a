"""Running estimates: means and spreads that a training forward updates, and averages of weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import hypot, inf
from typing import TYPE_CHECKING, NamedTuple

from initlint.analysis.recipes.recipe import zero
from initlint.analysis.signal_path import is_used, sources

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Statistics, Tensor, Write

DRAWING = frozenset({"rand", "randn"})  # draws that a line asked for, beside initialisers
MEAN = re.compile(r"(^|_)(mean|mu|avg)(_|$)")
SPREAD = re.compile(r"(^|_)(var|variance|std|sigma)(_|$)")
RUNNING = re.compile(r"(^|_)(running|moving|ema|population|pop)(_|$)")
AVERAGE = re.compile(r"ema|avg|average|shadow|momentum|target|teacher|slow|key|_k(\W|$)", re.IGNORECASE)
COUNTING = re.compile(r"count|step|num_|n_updates|debias|correct|init", re.IGNORECASE)
DIVIDING = frozenset({"reciprocal", "rsqrt"})


def neutral_start(model: Evidence, buffer: Tensor) -> float | None:
    """Where a running mean (0) or spread (1) starts; None for anything else."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", buffer.local_name).lower()
    last = buffer.provenance.last_write
    if last is not None and last.pretrained:
        return None
    if not buffer.updated and not RUNNING.search(name):
        return None
    if SPREAD.search(name):
        return 1.0
    return 0.0 if MEAN.search(name) and _spread_beside(model, buffer) else None


def _spread_beside(model: Evidence, buffer: Tensor) -> bool:
    others = [b for b in model.buffers if b.owner == buffer.owner and b.shape == buffer.shape]
    return any(SPREAD.search(b.local_name.lower()) for b in others)


def has_counter(model: Evidence, buffer: Tensor) -> bool:
    """The module counts its updates, so that it can correct an average that starts at zero."""
    return any(
        COUNTING.search(b.local_name) and b.elements == 1 and b.local_name != "num_batches_tracked"
        for b in model.buffers
        if b.owner == buffer.owner
    )


def divisors(model: Evidence, least: float) -> Iterator[tuple[Tensor, float]]:
    """Buffers of zeros that the signal is divided by, and what that multiplies it by, above `least`."""
    for buffer in model.buffers:
        if not is_used(buffer) or not zero(buffer.statistics):
            continue
        divided = any(step.operation in DIVIDING for step in buffer.use.wiring.steps)
        if divided and neutral_start(model, buffer) is None:
            growth = _growth(model, buffer.use.depth)
            if growth > least:
                yield buffer, growth


def _growth(model: Evidence, depth: int) -> float:
    """What enters the next weights over what leaves the signal before them; infinite if it is not finite."""
    most = 0.0
    for signal in model.signals:
        if signal.depth in (depth, depth + 1) and (signal.forward.nans or signal.forward.infs):
            return inf
        before = [source.forward.rms for source in sources(model, signal)]
        if signal.depth == depth + 1 and signal.input_rms and before and max(before) > 0:
            most = max(most, signal.input_rms / max(before))
    return most


class Outdated(NamedTuple):
    """An average of a weight (EMA, momentum encoder) that was copied before the weight got its values."""

    copy: Tensor
    weight: Tensor
    write: Write  # the one that the copy lacks
    std: float  # of the copy
    current: float  # of the weight


def outdated_copies(model: Evidence) -> Iterator[Outdated]:
    """All of them, told by their names: other copies may well be meant to differ."""
    for copy in model.tensors:
        weight = model.by_name.get(copy.provenance.outdated or "")
        if weight is None or copy.requires_grad or not weight.requires_grad or not AVERAGE.search(copy.name):
            continue
        figures, current, last = copy.statistics, weight.statistics, weight.provenance.last_write
        if figures is None or current is None or last is None:
            continue
        if figures.digest != current.digest:
            yield Outdated(copy, weight, last, figures.std, current.std)


def _departs(model: Evidence, buffer: Tensor, start: float, distance: float) -> bool:
    """A running statistic is one other constant than its start, or drawn at this rms distance from it."""
    figures, last = buffer.statistics, buffer.provenance.last_write
    if figures is None:
        return False
    if figures.constant:
        corrected = figures.mean == 0 and has_counter(model, buffer)
        return figures.mean != start and not corrected
    if last is None or last.kind != "random" or not (last.via == "initialiser" or last.function in DRAWING):
        return False
    return hypot(figures.mean - start, figures.std) > distance


def astray(model: Evidence, distance: float) -> Iterator[tuple[Tensor, Statistics, float]]:
    """Running statistics that do not start where they should: with their figures, and where they should."""
    for buffer in model.buffers:
        figures, start = buffer.statistics, neutral_start(model, buffer)
        if figures is None or start is None or figures.nans or buffer.provenance.unwritten:
            continue
        if (start == 1 and figures.minimum < 0) or _departs(model, buffer, start, distance):
            yield buffer, figures, start
