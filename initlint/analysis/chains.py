"""Plain chains of layers: weights drawn by one line, each feeding the next through one activation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, fsum, isclose, log, sqrt
from typing import TYPE_CHECKING

from initlint import theory
from initlint.analysis.fans import has_plain_scale

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Scheme, Weight, Write
    from initlint.finding import Site

FEWEST = 3  # weights that make a chain
VANISHED = 0.01  # of the signal is left: from here on the gain of PyTorch's own draw, written out, is a slip
DEFAULT = 1 / sqrt(3)  # gain of what torch.nn draws by itself, and many write out: U(±1/√fan_in)


@dataclass(frozen=True, slots=True)
class Chain:
    """Weights of one scheme and one activation in the order in which the signal passes them.

    `gain` is the mean of std·√fan_in, or what orthogonal and Xavier weights were drawn with; `growth` is what
    the last weight's input is of the first's, `steps` layers later.
    """

    weights: tuple[Weight, ...]
    activation: str
    text: str
    gain: float
    growth: float
    steps: int


def chains(model: Evidence) -> Iterator[Chain]:
    """Chains of explicitly drawn weights without normalisation, residual sums or output in between."""
    groups: dict[tuple[Site | None, str], list[tuple[Weight, Scheme]]] = {}
    for weight in model.weights:
        use, write = weight.use, weight.provenance.last_write
        if write is None or write.default or use.role == "recurrent":
            continue
        if use.normalised_before or use.normalised_after or use.ends_residual or use.reaches_output:
            continue
        scheme = next((s for s in weight.schemes if s.gain is not None), weight.scheme)
        if scheme is None or scheme.distribution in ("constant", "identity") or has_plain_scale(weight):
            continue
        if _backward(write, scheme, use.activation):
            continue
        if use.activation not in (None, "none", "sigmoid") and theory.gain(use.activation):
            groups.setdefault((weight.site, use.activation), []).append((weight, scheme))
    for (_, activation), members in groups.items():
        chain = _chain(model, activation, members)
        if chain is not None:
            yield chain


def _backward(write: Write, scheme: Scheme, activation: str | None) -> bool:
    """Drawn with the gain that suits, for the number of outputs: it keeps the gradient, not the signal."""
    mode, gain = write.arguments.get("mode", scheme.fan_mode), write.arguments.get("gain", scheme.gain)
    fits = isinstance(gain, int | float) and isclose(gain, theory.gain(activation) or 1.0, rel_tol=1e-3)
    return mode == "fan_out" and fits


def _chain(model: Evidence, activation: str, members: list[tuple[Weight, Scheme]]) -> Chain | None:
    members.sort(key=lambda member: member[0].use.depth)
    weights = tuple(weight for weight, _ in members)
    first, last = weights[0], weights[-1]
    if len(weights) < FEWEST:
        return None
    steps = last.use.depth - first.use.depth
    entering = [model.output_of(weight) for weight in (first, last)]
    scales = [signal.input_rms for signal in entering if signal is not None and signal.input_rms]
    if steps < FEWEST - 1 or len(scales) < 2 or _sums(model, first.use.node, last.use.node):
        return None
    growth, scheme = scales[1] / scales[0], members[0][1]
    default = scheme.distribution == "uniform" and isclose(scheme.gain or 0.0, DEFAULT, rel_tol=1e-6)
    if default and growth > VANISHED:
        return None
    return Chain(weights, activation, scheme.text, _gain(members), growth, steps)


def _sums(model: Evidence, first: str, last: str) -> bool:
    """A residual sum lies between two nodes."""
    order = [signal.node for signal in model.signals]
    if first not in order or last not in order:
        return True
    return any(signal.residual for signal in model.signals[order.index(first) : order.index(last)])


def _gain(members: list[tuple[Weight, Scheme]]) -> float:
    """Geometric mean of std·√fan_in, or of the gain of a scheme that also heeds the number of outputs.

    Where layers widen, orthogonal weights keep the norm instead of the rms, and Xavier's the mean of both.
    """
    gains = [
        scheme.gain if scheme.distribution == "orthogonal" or scheme.fan_mode == "fan_avg" else weight.gain
        for weight, scheme in members
    ]
    known = [gain for gain in gains if gain]
    return exp(fsum(map(log, known)) / len(known)) if known else 1.0


def suited_gains(activation: str) -> tuple[float, float]:
    """Gains that suit an activation: what keeps the second moment, and for tanh 1 too (Glorot & Bengio)."""
    best = theory.gain(activation) or 1.0
    return (1.0, best) if activation in ("tanh", "softsign", "hardtanh", "elu") else (best, best)
