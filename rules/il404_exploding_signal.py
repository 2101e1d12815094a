"""IL404 exploding-signal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.culprits import signal_trends
from initlint.analysis.locations import signal_locations, stack_locations
from initlint.analysis.remedies import redraw

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class ExplodingSignal(Rule):
    """A signal that grows from layer to layer, with nothing to bring it back.

    A residual sum adds the variance of its branch to that of the stream: with branches as large as the
    stream it doubles in every block. Outputs, loss and gradients start orders of magnitude too large.

    Start residual branches at zero (the last layer, a scale, the gain of the last norm), divide them by the
    square root of their number, or end the stream in a normalisation; in a plain stack use the gain of the
    activation that follows each weight.

    References:
        Zhang, Dauphin, Ma, Fixup Initialization, 2019, section 2.
        De and Smith, Batch Normalization Biases Residual Blocks Towards the Identity Function, 2020.
        Derrida, Random-energy model, 1981: a softmax over C values of spread s picks a single one once s
        exceeds sqrt(2 ln C), 5.3 for a million classes.
    """

    code = "IL404"
    name = "exploding-signal"
    severity = "warning"
    level = "signal"
    published = "note"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {"repeated-init": "upstream", "huge-variance": "upstream", "bound-exceeded": "same"}

    #: Growth from the first layer on: three times the spread at which even a softmax over a million
    #: classes picks a single one.
    factor: float = 16.0

    def check(self, model: Evidence) -> Iterator[Finding]:
        for trend in signal_trends(model, falling=False):
            way, guilty = trend.way, trend.culprits
            if trend.change <= self.factor:
                continue
            sums = [s for s in way.steps if s.residual]
            where = f"{len(sums)} residual sums" if sums else f"{way.layers} layers"
            yield self.finding(
                guilty,
                f"the signal grows by a factor of {trend.factor:.2g} per layer over {where}, "
                f"to {trend.change:.3g} times its size, and nothing brings it back",
                measured={"factor per layer": trend.factor, "growth": trend.change},
                expected={"factor per layer": "near 1", "growth": f"below {self.factor:g}"},
                help="start the residual branches at zero or divide them by the square root of their number"
                if sums
                else "use the gain of the activation that follows each weight, or normalise between layers",
                locations=(
                    *signal_locations(sums[:1] or way.steps[:1], guilty),
                    *stack_locations(model, guilty),
                ),
                suggestion=None if sums else redraw(*guilty),
            )
