"""IL204 gain-mismatch."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis import symptoms
from initlint.analysis.chains import chains, suited_gains
from initlint.analysis.fans import visible_root_slips
from initlint.analysis.remedies import redraw

if TYPE_CHECKING:
    from initlint import Evidence, Finding
    from initlint.analysis.chains import Chain


class GainMismatch(Rule):
    """A chain of layers whose gain does not fit the activation between them.

    An activation takes a part of the signal's second moment: ReLU half of it. The gain of the weights has
    to give it back, √2 for ReLU, 1 for SELU; what is missing or too much multiplies from layer to layer.

    Use the gain of the activation: nn.init.kaiming_normal_(nonlinearity="relu") in front of ReLU,
    nonlinearity="linear" in front of SELU.

    References:
        He et al., Delving Deep into Rectifiers, 2015, section 2.2, https://arxiv.org/abs/1502.01852
        Klambauer et al., Self-Normalizing Neural Networks, 2017: weights of variance 1/n for SELU.
    """

    code = "IL204"
    name = "gain-mismatch"
    severity = "warning"
    level = "draw"
    needs = frozenset({"provenance", "statistics", "graph", "probe"})
    explained_by = {"wrong-fan": "same", "biased-mean": "same"}

    #: Gain over the one that fits: nn.init's 5/3 for tanh, a round figure, is 1.05.
    ratio: float = 1.1
    #: Scale over the one with its root, either way: that of a fan of four, which harms little.
    slip: float = 2.0
    #: Growth or shrinkage at the end of a chain, predicted and measured: √2 a layer reaches it in four.
    total: float = 3.0
    #: Where that is a warning: five layers of Xavier before ReLU come to it, four of a graph network do not.
    visible: float = 5.0

    def check(self, model: Evidence) -> Iterator[Finding]:
        slips = list(visible_root_slips(model, self.slip))
        for weight, slip in slips:
            harms = slip.written < slip.meant or symptoms.of_excess(model, weight)
            yield self.finding(
                weight,
                f"{slip.text}: √({slip.formula}) = {slip.meant:.3g}",
                measured={"scale": slip.written},
                expected={"scale": slip.meant},
                severity=None if harms and not weight.published else "note",
                help=f"take the square root of {slip.formula} once: {slip.meant:.3g}",
            )
        reported = {weight.name for weight, _ in slips}
        for chain in chains(model):
            if not reported & {weight.name for weight in chain.weights}:
                yield from self._unsuited(model, chain)

    def _unsuited(self, model: Evidence, chain: Chain) -> Iterator[Finding]:
        low, high = suited_gains(chain.activation)
        if low / self.ratio <= chain.gain <= high * self.ratio:
            return
        expected = low if chain.gain < low else high
        grows = self._growth(chain, chain.gain / expected)
        effect = grows or self._saturation(model, chain, expected)
        if effect is None:
            return
        yield self.finding(
            chain.weights,
            f"gain {chain.gain:.3g} ({chain.text}) where {chain.activation} calls for {expected:.3g}: "
            f"{effect}",
            measured={"gain": chain.gain, "growth": chain.growth},
            expected={"gain": expected},
            severity="note" if 1 / self.visible < chain.growth < self.visible and grows else None,
            help=f"use the gain of {chain.activation}, {expected:.3g}: std = {expected:.3g}/√fan_in",
            suggestion=redraw(*chain.weights),
        )

    def _growth(self, chain: Chain, ratio: float) -> str | None:
        """The signal grows or shrinks as the gain predicts."""
        predicted = ratio**chain.steps
        if min(abs(log(predicted)), abs(log(chain.growth))) < log(self.total):
            return None
        if (chain.growth < 1) != (predicted < 1):
            return None
        verb, times = ("grows", chain.growth) if chain.growth > 1 else ("shrinks", 1 / chain.growth)
        return f"the signal {verb} {times:.3g} times over {chain.steps} layers"

    def _saturation(self, model: Evidence, chain: Chain, expected: float) -> str | None:
        """A bounded activation does not let the signal grow; it goes flat."""
        seen = symptoms.of_excess(model, chain.weights[-1]) if chain.gain > expected else None
        return seen.text if seen is not None and seen.kind == "saturation" else None
