"""IL206 biased-mean."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule, theory
from initlint.analysis.remedies import redraw

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Weight


class BiasedMean(Rule):
    """A weight matrix drawn around a value that is not zero.

    The common value makes every unit add up its inputs in the same way: the layer computes their sum,
    scaled, and what tells its units apart is small beside that.

    Draw around zero: torch.randn or nn.init.uniform_(w, -b, b) in place of torch.rand or
    nn.init.uniform_(w, 0, b).

    References:
        Bai & Yin, Annals of Probability 21, 1993: an m x n matrix of independent values of standard
        deviation s around zero stretches no vector more than s(√m + √n), which the mean µ, a matrix of
        one direction and of norm |µ|√(mn), has to exceed to lead.
    """

    code = "IL206"
    name = "biased-mean"
    severity = "warning"
    level = "draw"
    needs = frozenset({"provenance", "statistics", "graph"})
    lead: float = 1.0  #: norm of the mean over the norm of all that is random in the weight

    def check(self, model: Evidence) -> Iterator[Finding]:
        for weight in model.weights:
            figures, size = weight.statistics, _size(weight)
            if size is None or figures.constant or not _random(weight):
                continue
            rows, columns = size
            common = abs(figures.mean) * math.sqrt(rows * columns)
            random = figures.std * (math.sqrt(rows) + math.sqrt(columns))
            if common > self.lead * random and theory.biased(figures.mean, figures.std, figures.count):
                yield self.finding(
                    weight,
                    f"mean {figures.mean:.3g} at a standard deviation of {figures.std:.3g}: the sum of the "
                    f"inputs is multiplied by up to {common:.3g}, everything else by at most {random:.3g}",
                    help="draw the weight around zero",
                    suggestion=redraw(weight),
                    measured={"mean": figures.mean},
                    expected={"mean": 0.0},
                )


def _size(weight: Weight) -> tuple[int, int] | None:
    """Inputs and outputs of one matrix of the weight; None if it is no matrix."""
    use = weight.use
    if not use.fan_in:
        return None
    stack = math.prod(weight.shape[axis] for axis in use.stacked) * use.groups
    outputs = weight.elements // max(use.fan_in * stack, 1)
    return (use.fan_in, outputs) if use.fan_in > 1 and outputs > 0 else None


def _random(weight: Weight) -> bool:
    """Its values were drawn, or look it where they come from outside torch; not computed, not loaded."""
    writes = (*weight.provenance.writes, *weight.provenance.origins)
    if weight.provenance.loaded or any(origin.pretrained for origin in weight.provenance.origins):
        return False
    drawn = weight.scheme is not None and weight.scheme.distribution in ("uniform", "normal", "truncated")
    return any(w.kind == "random" for w in writes) or (
        drawn and not any(w.kind == "transform" for w in writes)
    )
