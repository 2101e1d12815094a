"""IL402 saturated-activation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from initlint import Rule, theory
from initlint.analysis import symptoms
from initlint.analysis.culprits import writers
from initlint.analysis.locations import signal_locations
from initlint.analysis.signal_path import upstream, variation

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Signal, Tensor, UsedTensor

RAREST = -7.0  # logarithm of the odds of a thousandth


class SaturatedActivation(Rule):
    """An activation most of whose values lie on its flat part.

    Where sigmoid and tanh are flat, and where a softmax gives everything to one choice, next to no gradient
    passes: the layers in front learn slowly or not at all.

    Make the weights in front smaller, for example with nn.init.xavier_uniform_ and the gain of the
    activation, or move their bias. A few values near the ends are usual, and an output that starts at the
    prior of its class is meant to.

    References:
        Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
    """

    code = "IL402"
    name = "saturated-activation"
    severity = "warning"
    level = "signal"
    published = "note"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {"repeated-init": "upstream", "exploding-signal": "upstream", "scalar-constant": "same"}

    #: Share of values within 1 % of an end (of softmax rows with one choice above 0.99). Normal
    #: pre-activations come there at a spread of 4 (tanh) or 7 (sigmoid), many times that of any scheme.
    share: float = 0.5

    def check(self, model: Evidence) -> Iterator[Finding]:
        for signal in model.signals:
            function = signal.function
            before = upstream(model, signal)
            if function not in theory.SATURATING or signal.saturated <= self.share or _prior(model, signal):
                continue
            guilty = writers(model, signal)
            if not guilty or before is None:
                continue
            scales = [
                t
                for t in model.used_parameters
                if t.use.wiring.cosine and symptoms.has_hard_softmax(model, t) and _behind(t, guilty)
            ]
            guilty = (*scales, *guilty)
            values = "rows" if function == "softmax" else "values"
            yield self.finding(
                guilty,
                f"{signal.saturated:.0%} of the {values} of the {function} behind it are on its flat part, "
                f"with inputs of rms {before.forward.rms:.3g}",
                related=[signal.module] if signal.module else (),
                measured={"saturated": signal.saturated, "pre-activation rms": before.forward.rms},
                expected={"saturated": f"below {self.share:g}", "pre-activation rms": "about 1"},
                help="make the factor of the cosines smaller"
                if scales
                else "make the weight smaller or move the bias: the inputs are best of size 1 around 0",
                locations=signal_locations([signal], guilty),
            )


def _behind(factor: UsedTensor, weights: Iterable[Tensor]) -> bool:
    """It multiplies what these weights give."""
    return any(w.name in factor.use.wiring.sources for w in weights)


def _prior(model: Evidence, signal: Signal) -> bool:
    """The output of a head whose bias is the logarithm of a small prior, down to a thousandth."""
    before = upstream(model, signal)
    if before is None or not RAREST < before.forward.mean < -2 * variation(before):
        return False
    uses = [t.use for t in model.named(before.weights)]
    return signal.leaves or any(use is not None and use.reaches_output for use in uses)
