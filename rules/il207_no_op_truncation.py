"""IL207 no-op-truncation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule, theory

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Tensor, Write


CLAMPS = frozenset({"clamp", "clip", "clamp_min", "clamp_max", "hardtanh", "fmod", "minimum", "maximum"})


class NoOpTruncation(Rule):
    """A truncated draw whose bounds lie where no value ever falls.

    The bounds a and b of nn.init.trunc_normal_ are values, not standard deviations: with std=0.02 its
    default of ±2 is a hundred standard deviations away, and what comes out is a plain normal draw.

    Give the bounds in the units of the weight, a=-2*std and b=2*std, or draw with nn.init.normal_.

    References:
        torch.nn.init.trunc_normal_: values outside [a, b] are redrawn until they are within the bounds.
    """

    code = "IL207"
    name = "no-op-truncation"
    severity = "note"
    needs = frozenset({"provenance", "statistics"})
    chance: float = 1e-3  #: the bounds do something if they cut any value at all with more than this chance

    def check(self, model: Evidence) -> Iterator[Finding]:
        for tensor in model.parameters:
            write, std, gap = _truncation(tensor) or (None, 0.0, 0.0)
            if write is None or write.site.package is not None:
                continue
            sigmas = gap / std
            if sigmas > theory.largest(tensor.elements, self.chance):
                yield self.finding(
                    tensor,
                    f"{write.operation} cuts {sigmas:.3g} standard deviations from the mean, where none of "
                    f"{tensor.elements} values falls",
                    help=f"bounds of ±2 standard deviations are ±{2 * std:.3g} here",
                    measured={"bound / std": sigmas},
                    expected={"bound / std": "about 2"},
                    site=write.site,
                    locations=[
                        Location(site, "called from here") for site in write.callers if site.package is None
                    ],
                )


def _truncation(tensor: Tensor) -> tuple[Write, float, float] | None:
    """The write that was meant to cut the values, the std they had, and the nearer bound's distance."""
    figures, origin = tensor.statistics, tensor.provenance
    drawn = max((i for i, write in enumerate(origin.writes) if write.kind == "random"), default=0)
    writes = (*origin.writes[drawn:], *origin.origins)
    for write in writes:
        given = {key: value for key, value in write.arguments.items() if isinstance(value, int | float)}
        operation = write.function.rstrip("_")
        if operation == "trunc_normal" and given.get("std", 0) > 0 and {"a", "b"} <= given.keys():
            mean = given.get("mean", 0.0)
            return write, given["std"], min(given["b"] - mean, mean - given["a"])
        if operation in CLAMPS and figures is not None and figures.std > 0:
            if any(_changes(w) for w in writes if w.order > write.order):
                continue
            low = given.get("min", given.get("min_val", -math.inf))
            high = given.get("max", given.get("max_val", math.inf))
            if operation == "fmod":
                low, high = -given.get("other", math.inf), given.get("other", math.inf)
            gap = min(high - figures.mean, figures.mean - low)
            return (write, figures.std, gap) if gap < math.inf else None
    return None


def _changes(write: Write) -> bool:
    """The write does more than pass values on."""
    return write.kind != "copy" and write.via not in ("copy", "assignment")
