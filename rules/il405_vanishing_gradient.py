"""IL405 vanishing-gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.culprits import gradient_trends
from initlint.analysis.locations import signal_locations

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class VanishingGradient(Rule):
    """A gradient that falls from layer to layer on its way back, so that early layers cannot learn.

    Every layer passes on a part of the gradient it receives. After some layers what is left is lost in the
    noise of the others, and the first layers keep their random values.

    Look at the activations on the way, which may be on their flat part, and at the scale of the weights and
    norms: initialise for the activation, or add residual connections. What an installed package chose is a
    note: its scales suit the sizes that it publishes.

    References:
        Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
        He et al., Delving Deep into Rectifiers, 2015, section 2.2: diminishing gradients at 1/17000.
    """

    code = "IL405"
    name = "vanishing-gradient"
    severity = "warning"
    level = "outcome"
    published = "note"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {
        "non-finite-signal": "anywhere",
        "vanishing-signal": "anywhere",
        "saturated-activation": "anywhere",
        "dead-units": "anywhere",
        "dead-zero-init": "anywhere",
        "constant-weight": "anywhere",
        "dtype-underflow": "anywhere",
        "huge-variance": "anywhere",
        "tiny-variance": "anywhere",
    }

    #: What is left of the gradient: of the order at which He et al. (2015) saw networks fail to train.
    remaining: float = 1e-4

    def check(self, model: Evidence) -> Iterator[Finding]:
        for trend in gradient_trends(model, falling=True):
            way, guilty = trend.way, trend.culprits
            if trend.change >= self.remaining:
                continue
            yield self.finding(
                guilty,
                f"the gradient falls by a factor of {1 / trend.factor:.2g} per layer over {way.layers} "
                f"layers: {trend.change:.2g} of it reaches the first",
                measured={"factor per layer": trend.factor, "remaining": trend.change},
                expected={"factor per layer": "near 1", "remaining": f"above {self.remaining:g}"},
                help="look at the activations and the scale of the weights on the way, or add residual "
                "connections",
                locations=signal_locations(way.steps[:1], guilty),
            )
