"""IL407 initial-loss."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite, log, prod
from typing import TYPE_CHECKING

from initlint import Rule, theory
from initlint.analysis import symptoms
from initlint.analysis.culprits import writers
from initlint.analysis.locations import signal_locations
from initlint.analysis.signal_path import is_used, sources, upstream

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Signal

EVEN = 0.1  # a probability within this of one half is no prior
POOLING = ("scatter", "index_add", "index_put", "segment")
MANY = 1.5  # size of a sum over that of its operands together: it cannot exceed 1 unless many rows went in


class InitialLoss(Rule):
    """Outputs that start far from what is known before training, and a first loss far above its minimum.

    No class is known to be likelier than another, and the cross-entropy of equal logits is ln(classes).
    Large random logits are confident and wrong: the first steps go into making them small. Of the positions
    of a detector nearly all are background, so its map of objects is best started at a low probability.

    Draw the last layer smaller, for example with a standard deviation of 1/sqrt(fan_in) behind a
    normalisation, or start it at zero; start the bias of a dense map at the logarithm of a small prior. What
    an installed package chose is a note: its scales suit the sizes that it publishes. Rows that are divided
    by their norms are not blamed: the factor of the cosines decides the size of the logits.

    References:
        Lin et al., Focal Loss for Dense Object Detection, 2017, section 4.1: prior probability 0.01.
        Derrida, Random-energy model, 1981: a softmax over C values of spread s picks a single one once s
        exceeds sqrt(2 ln C); there the cross-entropy, ln C + s²/2, is twice ln C.
    """

    code = "IL407"
    name = "initial-loss"
    severity = "warning"
    level = "outcome"
    published = "note"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {
        "exploding-signal": "anywhere",
        "repeated-init": "anywhere",
        "huge-variance": "anywhere",
        "bound-exceeded": "same",
        "embedding-scale": "anywhere",
        "recipe-deviation": "same",
    }

    #: Multiple of ln(classes): half again above the point at which the softmax picks a single class.
    factor: float = 3.0
    #: Positions from which on a map is dense: most of them are background.
    positions: int = 64

    def check(self, model: Evidence) -> Iterator[Finding]:
        yield from self._logits(model)
        yield from self._maps(model)

    def _maps(self, model: Evidence) -> Iterator[Finding]:
        """Dense maps of probabilities that start at one half, beside maps of something else."""
        maps = [s for s in model.signals if s.leaves and len(s.shape) > 2]
        for signal in maps:
            positions = prod(signal.shape[2:])
            beside = any(other.shape[2:] == signal.shape[2:] for other in maps if other is not signal)
            if signal.function != "sigmoid" or positions < self.positions or not beside:
                continue
            before = upstream(model, signal)
            named = model.named(before.weights) if before is not None else ()
            used = [t for t in named if is_used(t)]
            if not any(t.use.role == "kernel" for t in used):
                continue  # the further axes are no positions
            biases = [t for t in used if t.use.role == "shift"]
            if abs(signal.forward.mean - 0.5) < EVEN and signal.forward.std < EVEN and biases:
                yield self.finding(
                    biases[0],
                    f"each of {positions} positions starts with a probability of {signal.forward.mean:.2g}",
                    severity="note",
                    measured={"probability": signal.forward.mean},
                    expected={"probability": "the share of positions with an object, often 0.01"},
                    help="start the bias at -log((1 - p) / p) for a prior p, as -4.6 for 0.01",
                    locations=signal_locations([signal], biases),
                )

    def _logits(self, model: Evidence) -> Iterator[Finding]:
        for logits in model.logits:
            signal, uniform = model.signals_by_node.get(logits.node), log(logits.classes)
            if signal is None or not isfinite(logits.loss):
                continue
            if logits.loss <= self.factor * uniform * _chance(signal, logits.classes):
                continue
            guilty = tuple(t for t in writers(model, signal) if t.use is None or not t.use.wiring.unit)
            if not guilty or not symptoms.is_classifier(model, logits) or _pooled(model, signal):
                continue
            yield self.finding(
                guilty,
                f"the logits of {logits.classes} classes start with std {logits.std:.3g}: a cross-entropy of "
                f"{logits.loss:.3g}, where equal logits give {uniform:.3g}",
                measured={"loss": logits.loss, "logit std": logits.std},
                expected={"loss": uniform, "logit std": "below 1"},
                help="draw the last layer smaller (std 1/√fan_in behind a norm), or start it at zero",
                locations=signal_locations([signal], guilty),
            )


def _chance(signal: Signal, classes: int) -> float:
    """What the draw of the weights alone may multiply the spread of logits by, and with it a large loss.

    Inputs that a network hardly tells apart share the logits of their classes, and add no values to these.
    """
    inputs = 1 + (signal.shape[0] - 1) * min(signal.across_inputs or 0.0, 1.0) ** 2 if signal.shape else 1
    return theory.std_interval(int(classes * inputs))[1]


def _pooled(model: Evidence, signal: Signal) -> bool:
    """Rows were summed behind the last weights: the number of neighbours makes the logits, not a draw."""
    way: Signal | None = signal
    while way is not None and way.kind != "weight":
        parts = sum(source.forward.rms for source in sources(model, way))
        sums = way.kind == "add" or any(name in way.function for name in POOLING)
        if sums and parts and way.forward.rms > MANY * parts:
            return True
        way = upstream(model, way)
    return False
