"""IL403 vanishing-signal."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.culprits import signal_trends
from initlint.analysis.locations import signal_locations
from initlint.analysis.remedies import redraw

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class VanishingSignal(Rule):
    """A signal that falls from layer to layer until the inputs no longer matter.

    Each layer takes away a part of what tells one input from another, and nothing on the way restores it.
    The outputs agree for all inputs, whatever their biases add, and the first layers get next to no
    gradient. PyTorch's default keeps a sixth of the variance per ReLU layer: right for a few layers.

    Initialise the weights for the activation that follows them, for example with
    nn.init.kaiming_normal_(weight, nonlinearity="relu"), or add normalisation or residual connections. What
    an installed package chose is a note: its scales suit the sizes that it publishes. So is a fall that
    layers of a few units show in some draws of weights of the right scale.

    References:
        He et al., Delving Deep into Rectifiers, 2015, section 2.2.
        Poole et al., Exponential expressivity in deep neural networks through transient chaos, 2016.
        Schoenholz et al., Deep Information Propagation, 2017, section 5: networks train up to a depth of
        about six times the one over which the correlation of two inputs changes by a factor of e.
        Hanin and Nica, Products of Many Large Random Matrices and Gradients in Deep Neural Networks, 2018.
    """

    code = "IL403"
    name = "vanishing-signal"
    severity = "warning"
    level = "signal"
    published = "note"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {
        "dtype-underflow": "same",
        "dead-zero-init": "upstream",
        "dead-units": "upstream",
        "saturated-activation": "upstream",
    }

    #: What is left of the difference between inputs: 2⁻¹¹, the rounding of half precision. As a variance
    #: that is e⁻¹⁵, where networks stop to train at e⁻⁶ (Schoenholz et al. 2017, figure 5).
    remaining: float = 2.0**-11

    #: Standard deviations, over draws, by which a signal may fall where a network would train (e⁻⁶ of the
    #: variance is left): 4.75 leave one false alarm in 10⁶ draws; layers of four units have a longer tail.
    deviations: float = 6.0

    def check(self, model: Evidence) -> Iterator[Finding]:
        for trend in signal_trends(model, falling=True):
            way, guilty = trend.way, trend.culprits
            if trend.change >= self.remaining:
                continue
            by_chance = trend.change > exp(-3 - self.deviations * way.chance)
            yield self.finding(
                guilty,
                f"what tells inputs apart falls by a factor of {1 / trend.factor:.2g} per layer over "
                f"{way.layers} layers, to {trend.change:.2g} of its size, and nothing restores it",
                measured={"factor per layer": trend.factor, "remaining": trend.change},
                expected={"factor per layer": "near 1", "remaining": f"above {self.remaining:.2g}"},
                help="use the gain of the activation that follows (nn.init.kaiming_normal_ for ReLU), "
                "or normalise between the layers",
                severity="note" if by_chance else None,
                locations=signal_locations(way.steps[:1], guilty),
                suggestion=redraw(*guilty),
            )
