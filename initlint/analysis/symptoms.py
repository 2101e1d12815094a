"""What harm the scale of a weight does, as the probe saw it.

A scale that theory calls wrong is often harmless: a normalisation restores the signal, a head or the end
of a residual branch is meant to be small. These functions tell whether it shows: units on the flat part of
their activation, confident logits, a signal that one layer multiplies or all but erases, a gradient that
is out of proportion to the values it changes. They return None where the probe did not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, log
from statistics import median
from typing import TYPE_CHECKING, Literal

from initlint import theory
from initlint.analysis.culprits import writers
from initlint.analysis.signal_path import WEIGHTS, downstream, sources

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Logits, Signal, Tensor, UsedTensor, Weight

SATURATED = 0.4  # share of outputs on the flat part: 1.5 times the most that healthy published models show
CONFIDENT = 2.0  # initial cross-entropy in units of ln(classes), the loss of uniform predictions
GROWTH = 10.0  # output over input of one layer: squeeze layers of published models reach 8.9
DECAY = 1 / 50  # likewise downwards: matrices of std 0.02 with two inputs reach 1/35
DROWNED = 20.0  # residual branch over stream: first blocks behind embeddings of std 0.02 reach 16
FLAT = 4.0  # pre-activation beyond which a sigmoid has less than a tenth of its slope
DISPROPORTION = 1000.0  # gradient over value of a small weight, against the median weight's
STARVED = 100.0  # how many times smaller than the median's that of a large one is: healthy models reach 34

SymptomKind = Literal["saturation", "logits", "growth", "decay", "drowning", "gradient"]


@dataclass(frozen=True, slots=True)
class Symptom:
    """One visible consequence, in words that can stand in a message, and its figure."""

    kind: SymptomKind
    text: str
    figure: str  # what was measured: "saturated"
    value: float


def of_excess(model: Evidence, weight: Weight) -> Symptom | None:
    """What comes of a weight that is too large."""
    use, signal = weight.use, model.output_of(weight)
    if signal is None:
        return None
    return (
        _saturation(model, signal)
        or _gates(model, weight, signal)
        or (None if use.normalised_after or use.wiring.unit else _confidence(model, weight))
        or (None if is_restored(model, weight) else _growth(signal))
        or _drowning(model, signal)
        or _gradient(model, weight, small=True)
    )


def of_lack(model: Evidence, weight: Weight) -> Symptom | None:
    """What comes of a weight that is too small."""
    signal = model.output_of(weight)
    if signal is None:
        return None
    decay = None if is_restored(model, weight) else _decay(model, weight, signal)
    return decay or _gradient(model, weight, small=False)


def of_scale(
    model: Evidence, weight: Weight, expected: float, *, ratio: float, large: bool
) -> Symptom | None:
    """What comes of a std that is more than `ratio` times the expected one (small: the other way round)."""
    differs = theory.exceeds if large else theory.falls_short
    if not differs(weight.statistics.std, expected, weight.statistics.count, ratio=ratio):
        return None
    return of_excess(model, weight) if large else of_lack(model, weight)


def is_classifier(model: Evidence, logits: Logits) -> bool:
    """A weight holds a row for each class: similarities of the inputs to each other are no such logits."""
    readout = model.named(logits.weights)
    return any(t.use is not None and t.use.role in WEIGHTS and logits.classes in t.shape for t in readout)


def is_restored(model: Evidence, weight: Weight) -> bool:
    """A normalisation sets the scale anew before the next activation, perhaps behind another weight.

    What is added to a residual stream keeps its size beside the stream, whatever comes later, and what
    starts one keeps it beside all that is added.
    """
    use = weight.use
    if use.ends_residual or _starts_stream(model, use.node):
        return False
    if use.wiring.unit or (use.normalised_after and use.activation in (None, "none")):
        return True
    for signal in downstream(model, use.node, until=lambda signal: not _is_homogeneous(signal)):
        if signal.kind == "norm":
            return True
        if signal.kind != "other" and not _is_homogeneous(signal):
            return False
    return False


def _is_homogeneous(signal: Signal) -> bool:
    """Multiples of its input give multiples of its output."""
    if signal.kind == "weight":
        return not signal.residual
    return signal.kind == "activation" and signal.function in ("relu", "leaky_relu")


def _starts_stream(model: Evidence, node: str) -> bool:
    """Branches are added to its outputs as they are."""
    return any(signal.residual and node in signal.sources[:1] for signal in model.signals)


def is_discrete(model: Evidence, weight: Weight) -> bool:
    """No gradient passes the products of a weight that has one: they only make a choice, of a code say."""
    signal, gradient = model.output_of(weight), weight.gradient
    trained = gradient is not None and gradient.scale is not None
    return trained and signal is not None and signal.backward is None


def is_held_open(model: Evidence, weight: Weight) -> bool:
    """A constant that is added to the outputs of a weight carries them: a gate that starts open."""
    signal, bias = model.output_of(weight), model.bias_of(weight)
    return (
        signal is not None
        and bias is not None
        and bias.statistics.constant
        and bias.statistics.absmax * DECAY > signal.forward.rms
    )


def is_saturated(model: Evidence, tensor: Tensor) -> bool:
    """An activation or softmax behind the place where a tensor is used is mostly flat."""
    signal = model.output_of(tensor)
    return signal is not None and _saturation(model, signal) is not None


def has_hard_softmax(model: Evidence, factor: UsedTensor) -> bool:
    """The softmax behind a factor picks one of many."""
    use = factor.use
    if use.activation != "softmax":
        return False
    return any(
        signal.kind == "softmax"
        and signal.saturated > SATURATED
        and any(weight.name in use.wiring.sources for weight in writers(model, signal))
        for signal in model.signals
    )


def amplification(model: Evidence, weight: Weight) -> float | None:
    """Rms of what leaves a weight over rms of what enters it."""
    signal = model.output_of(weight)
    if signal is None or not signal.input_rms:
        return None
    return signal.forward.rms / signal.input_rms


def disproportion(model: Evidence, weight: Weight) -> float | None:
    """Gradient over value of a weight, in units of the median weight's."""
    own = _relative_gradient(weight)
    others = [r for other in model.weights if (r := _relative_gradient(other)) is not None]
    typical = median(others) if others else 0.0
    return own / typical if own is not None and typical else None


# ---------------------------------------------------------------- the kinds


def _saturation(model: Evidence, signal: Signal) -> Symptom | None:
    for following in squashed(model, signal):
        if following.saturated > SATURATED:
            share = f"{100 * following.saturated:.0f} %"
            name = following.function
            what = "softmax rows have one choice" if name == "softmax" else f"{name} outputs saturate"
            return Symptom("saturation", f"{share} of the {what}", "saturated", following.saturated)
    return None


def squashed(model: Evidence, signal: Signal) -> Iterator[Signal]:
    """Activations with two flat ends, and softmaxes, behind a signal and before the next weights."""
    for following in _until_weight(model, signal):
        if following.kind in ("activation", "softmax") and _flat(following):
            yield following


def _flat(signal: Signal) -> bool:
    """Both ends of the function are flat, or it picks one of many."""
    return signal.function in ("tanh", "sigmoid", "hardsigmoid", "hardtanh", "erf", "softmax")


def _confidence(model: Evidence, weight: Weight) -> Symptom | None:
    harms = (_logits(logits.loss, logits.classes) for logits in judged_logits(model, weight))
    return next((harm for harm in harms if harm is not None), None)


def judged_logits(model: Evidence, weight: Weight) -> Iterator[Logits]:
    """Logits of classes that a weight makes."""
    names = {weight.name, *weight.aliases}
    for logits in model.logits:
        if names & set(logits.weights) and is_classifier(model, logits):
            yield logits


def _logits(loss: float, classes: int) -> Symptom | None:
    uniform = log(classes)
    if loss <= CONFIDENT * uniform:
        return None
    text = f"cross-entropy starts at {loss:.3g}, ln({classes}) = {uniform:.3g} is that of uniform predictions"
    return Symptom("logits", text, "cross-entropy", loss)


def _growth(signal: Signal) -> Symptom | None:
    if not signal.input_rms or signal.forward.rms < GROWTH * signal.input_rms:
        return None
    factor = signal.forward.rms / signal.input_rms
    return Symptom(
        "growth", f"its output is {factor:.3g} times as large as its input", "output / input", factor
    )


def _decay(model: Evidence, weight: Weight, signal: Signal) -> Symptom | None:
    factor = passed_on(model, weight, signal)
    if factor is None or factor > DECAY:
        return None
    return Symptom(
        "decay",
        f"its output is {1 / max(factor, 1e-30):.3g} times smaller than its input",
        "output / input",
        factor,
    )


def passed_on(model: Evidence, weight: Weight, signal: Signal) -> float | None:
    """Rms of the output over rms of the input; None where a constant bias decides on purpose.

    The part of the output that varies with the input counts.
    """
    if _biased(model, weight):
        return None
    if signal.input_rms:
        return signal.forward.rms * min(signal.across_inputs or 1.0, 1.0) / signal.input_rms
    return weight.gain if weight.use.role == "recurrent" else None


def _gates(model: Evidence, weight: Weight, signal: Signal) -> Symptom | None:
    spread = gate_drive(model, weight, signal)
    if spread is None or spread < FLAT:
        return None
    return Symptom(
        "saturation", f"it moves the gates by about ±{spread:.3g}, where they saturate", "gates", spread
    )


def gate_drive(model: Evidence, weight: Weight, signal: Signal) -> float | None:
    """Rms of what a weight of a fused recurrent layer, which does not show its gates, adds to them."""
    if weight.use.role != "recurrent" or signal.input_rms is not None:
        return None
    recurrent = "_hh" in weight.local_name
    entering = (source.forward.rms for source in sources(model, signal))
    return weight.gain * (signal.forward.rms if recurrent else max(entering, default=0.0))


def _biased(model: Evidence, weight: Weight) -> bool:
    bias = model.bias_of(weight)
    return bias is not None and bias.statistics.constant and bias.statistics.mean != 0


def _drowning(model: Evidence, signal: Signal) -> Symptom | None:
    for following in residual_sums(model, signal):
        if (following.branch_ratio or 0.0) > DROWNED:
            text = f"its residual branch is {following.branch_ratio:.3g} times as large as the stream"
            return Symptom("drowning", text, "branch / stream", following.branch_ratio or inf)
    return None


def residual_sums(model: Evidence, signal: Signal) -> Iterator[Signal]:
    """Sums of a stream and its branch behind a signal and before the next weights."""
    return (following for following in _until_weight(model, signal) if following.residual)


def _gradient(model: Evidence, weight: Weight, *, small: bool) -> Symptom | None:
    ratio = disproportion(model, weight)
    if not ratio or (lost(model, weight, ratio) < STARVED if small else ratio < DISPROPORTION):
        return None
    text = (
        f"its gradient over its values is {1 / ratio:.3g} times smaller than the median weight's"
        if small
        else f"its gradient over its values is {ratio:.3g} times the median weight's"
    )
    return Symptom("gradient", text, "gradient / value", ratio)


def lost(model: Evidence, weight: Weight, ratio: float) -> float:
    """How many times smaller a weight makes its own gradient over its values.

    What is missing from those that read its outputs as well is lost behind it, in a branch that is all
    but closed say. Where a normalisation takes the scale away, the gradient falls as the values grow, and
    the quotient with their square.
    """
    readers = [
        r
        for other in model.weights
        if weight.name in other.use.wiring.sources and (r := disproportion(model, other)) is not None
    ]
    times = min(max(readers, default=1.0), 1.0) / ratio
    return min(times, weight.gain**2) if is_restored(model, weight) else times


# ---------------------------------------------------------------- walking


def _until_weight(model: Evidence, signal: Signal) -> Iterator[Signal]:
    """Signals that follow, up to the next weights, normalisations or residual sums."""
    return downstream(
        model, signal.node, until=lambda s: s.residual or s.kind in ("weight", "norm", "softmax")
    )


def _relative_gradient(weight: Weight) -> float | None:
    figures, gradient = weight.statistics, weight.gradient
    if figures.constant or gradient is None or gradient.scale is None:
        return None
    return gradient.scale.rms / figures.rms if figures.rms else None
