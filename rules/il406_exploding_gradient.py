"""IL406 exploding-gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.culprits import gradient_trends
from initlint.analysis.locations import signal_locations

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class ExplodingGradient(Rule):
    """A gradient that grows from layer to layer on its way back.

    The first layers get steps that are orders of magnitude larger than those of the last: no learning rate
    suits both, and one step can throw the model out of range although its outputs look harmless.

    Initialise the weights for the activation that follows them, or scale residual branches with depth. A
    weight that is normalised right behind is not blamed: its scale cancels, forwards and backwards.

    References:
        Schoenholz et al., Deep Information Propagation, 2017, section 4: gradients explode in the chaotic
        phase, where bounded activations hide it in the forward pass.
        Yang et al., A Mean Field Theory of Batch Normalization, 2019: gradients explode in deep normalised
        stacks whatever the draw.
    """

    code = "IL406"
    name = "exploding-gradient"
    severity = "warning"
    level = "outcome"
    published = "note"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {
        "non-finite-signal": "anywhere",
        "exploding-signal": "anywhere",
        "saturated-activation": "anywhere",
        "repeated-init": "anywhere",
        "constant-weight": "anywhere",
        "huge-variance": "anywhere",
        "bound-exceeded": "anywhere",
        "recipe-deviation": "same",
    }

    #: Growth from the output back to the first layer: the inverse of what counts as vanished.
    factor: float = 1e4

    def check(self, model: Evidence) -> Iterator[Finding]:
        for trend in gradient_trends(model, falling=False):
            way, guilty = trend.way, trend.culprits
            if trend.change <= self.factor:
                continue
            yield self.finding(
                guilty,
                f"the gradient grows by a factor of {trend.factor:.2g} per layer over {way.layers} layers, "
                f"to {trend.change:.2g} times its size at the first",
                measured={"factor per layer": trend.factor, "growth": trend.change},
                expected={"factor per layer": "near 1", "growth": f"below {self.factor:g}"},
                help="use the gain of the activation that follows each weight, or scale residual branches "
                "with depth",
                locations=signal_locations(way.steps[:1], guilty),
            )
