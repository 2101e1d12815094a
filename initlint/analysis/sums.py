"""Sums of two signals of which one is lost in the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint.analysis.signal_path import is_used, is_weight, sources

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Signal, UsedTensor, Weight


def drowned_branches(model: Evidence, times: float) -> Iterator[tuple[Weight, float, Weight, float]]:
    """Weights whose output is lost in a sum with that of one drawn larger by this factor, and both rms."""
    for total in model.signals:
        if total.residual or total.leaves or total.operands is None or len(total.summands) != 2:
            continue
        small, large = sorted(zip(total.operands, total.summands, strict=True))
        if len(small[1]) != 1 or len(large[1]) != 1 or not 0 < small[0] * times < large[0]:
            continue
        mine, other = model.by_name[small[1][0]], model.by_name[large[1][0]]
        if not is_weight(mine) or not is_weight(other):
            continue
        if not (_is_drawn(mine) and _is_drawn(other)) or mine.gain * times > other.gain:
            continue
        yield mine, small[0], other, large[0]


def _is_drawn(weight: Weight) -> bool:
    """A matrix or kernel that the model's own code drew, neither a head nor the end of a branch."""
    use, write = weight.use, weight.provenance.last_write
    if use.role not in ("matrix", "kernel") or use.reaches_output or use.ends_residual:
        return False
    return write is not None and not write.default and write.kind == "random"


def table_in_sum(model: Evidence, total: Signal) -> tuple[UsedTensor | None, Signal | None]:
    """The drawn table or lookup that is the larger summand, and the signal that is the smaller one.

    A computed table (sinusoidal positions) has the size of its formula.
    """
    summands = sources(model, total)
    quiet = min(summands, key=lambda signal: signal.forward.rms, default=None)
    loud = [signal for signal in summands if signal is not quiet]
    names = {name for signal in loud if signal.kind == "weight" for name in signal.weights}
    if quiet is not None:
        names |= set(total.weights).difference(quiet.weights, *(signal.weights for signal in loud))
    tables = [
        t for t in model.named(sorted(names)) if is_used(t) and t.use.role in ("table", "lookup") and t.drawn
    ]
    return (tables[0], quiet) if len(tables) == 1 else (None, None)


def is_added_in_each_step(table: UsedTensor, size: float) -> bool:
    """What is added is far larger than the table: a sum over steps that the table is added to in each."""
    return table.use.uses > 1 and size > 4 * table.statistics.absmax
