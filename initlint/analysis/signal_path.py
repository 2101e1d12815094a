"""How the signal and its gradient change from layer to layer, along the way from the inputs to an output.

What counts of a signal is the part that differs between inputs: biases keep the rms of a stack up long
after its outputs have ceased to depend on what goes in. The level of a signal is the logarithm of that
part, the level of a gradient that of its norm, which pooling and strides do not change by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from math import exp, inf, log, prod, sqrt
from typing import TYPE_CHECKING, TypeGuard

from initlint.theory import never_positive

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Signal, Tensor, UsedTensor, Weight


RESOLUTION = 2.0**-24  # of float32: the least difference between inputs that a signal can show
RESTORED = 0.1  # a norm whose output, meant to be of size 1, differs between inputs by less has lost them
CROWD = 16  # values per channel, of which a batch norm takes less than 7 % out of the gradient's size
FEWEST = 4  # steps to which a growth per layer can be fitted
WEIGHTS = frozenset({"matrix", "kernel", "recurrent", "lookup"})
LOUD = 2.0  # factor of one weight above that of any scheme: √2 for ReLU, 5/3 for tanh
_STEEPEST = 50.0  # logarithm of a factor per layer beyond which it is of no interest


def is_used(tensor: Tensor | None) -> TypeGuard[UsedTensor]:
    """The graph uses it and its values were read; says so without importing the records."""
    return tensor is not None and tensor.use is not None and tensor.statistics is not None


def is_weight(tensor: Tensor | None) -> TypeGuard[Weight]:
    """Likewise, as a matrix or kernel."""
    return is_used(tensor) and tensor.kind == "parameter" and tensor.use.role in WEIGHTS - {"lookup"}


@dataclass(frozen=True, slots=True)
class Stretch:
    """The way to an output since the scale was last set: `start`, then weights and residual sums in order."""

    start: Signal
    steps: tuple[Signal, ...]

    @property
    def end(self) -> Signal:
        """The last of the signals."""
        return self.steps[-1]

    @property
    def layers(self) -> int:
        """Weights on the way."""
        return self.end.depth - self.start.depth

    @property
    def growth(self) -> float:
        """Fitted factor per layer of the part of the signal that differs between inputs."""
        return _factor([(s.depth, level(s)) for s in (self.start, *self.steps)])

    @property
    def change(self) -> float:
        """What the signal is multiplied by over all layers: as fitted or as measured, whichever is less."""
        return _cautious(self.growth, self.layers, level(self.end) - level(self.start))

    @property
    def chance(self) -> float:
        """Standard deviation of the logarithm of the change, over draws of weights of the right scale.

        In a ReLU stack the logarithm of the squared size has a variance of 5 · Σ 1/width over the hidden
        layers (Hanin and Nica, Products of Many Large Random Matrices and Gradients in Deep Neural Networks,
        2018, theorem 1).
        """
        return sqrt(5 * sum(1 / s.units for s in self.steps[:-1] if s.kind == "weight" and s.units)) / 2

    @property
    def rise(self) -> tuple[float, float]:
        """Likewise of the rms up to where it is largest: fitted factor per layer, and over all layers."""
        ways = (self.start, *self.steps)
        top = max(range(1, len(ways)), key=lambda i: ways[i].forward.rms)
        points = [(s.depth, log(s.forward.rms)) for s in ways[: top + 1] if s.forward.rms > 0]
        if len(points) <= FEWEST:
            return 1.0, 1.0
        factor = _factor(points)
        return factor, _cautious(factor, points[-1][0] - points[0][0], points[-1][1] - points[0][1])


@dataclass(frozen=True, slots=True)
class GradientPath:
    """The way of the gradient from an output, the last of `steps`, back to the first."""

    steps: tuple[Signal, ...]

    @property
    def layers(self) -> int:
        """Weights on the way."""
        return self.steps[-1].depth - self.steps[0].depth

    @property
    def growth(self) -> float:
        """Fitted factor per layer, from the output backwards, of the norm of the gradient."""
        return 1 / _factor([(s.depth, backward_level(s)) for s in self.steps])

    @property
    def change(self) -> float:
        """What the gradient is multiplied by over all layers: as fitted or as measured, whichever is less."""
        first, last = backward_level(self.steps[0]), backward_level(self.steps[-1])
        return _cautious(self.growth, self.layers, first - last)


def variation(signal: Signal) -> float:
    """The part of a signal that differs between inputs (between values, for a single input)."""
    if signal.across_inputs is None:
        return signal.forward.std
    return signal.forward.rms * max(signal.across_inputs, RESOLUTION)


def level(signal: Signal) -> float:
    """Logarithm of `variation`; minus infinity for zeros."""
    size = variation(signal)
    return log(size) if size > 0 else -inf


def backward_level(signal: Signal) -> float:
    """Logarithm of the norm of a signal's gradient; minus infinity where none arrived."""
    size = signal.backward.rms * sqrt(prod(signal.shape)) if signal.backward is not None else 0.0
    return log(size) if 0 < size < inf else -inf


def _factor(points: Sequence[tuple[int, float]]) -> float:
    """Growth per layer: the mean over the steps but for the quarter that falls, and that rises, the most.

    One layer that is far off does not make a trend, and what the next step takes back is no growth. A step
    over many layers, such as the sum of a lateral and a long way, counts as many.
    """
    last = list(dict(points).items())  # of several points at one depth the last
    steps = sorted(((b - a) / (j - i), j - i) for (i, a), (j, b) in pairwise(last) if j > i)
    quarter = len(steps) // 4
    middle = steps[quarter : len(steps) - quarter]
    if not middle:
        return 1.0
    slope = sum(slope * layers for slope, layers in middle) / sum(layers for _, layers in middle)
    return exp(max(min(slope, _STEEPEST), -_STEEPEST))


def _cautious(growth: float, layers: int, measured: float) -> float:
    """The smaller of a fitted and a measured change; 1 where one is a fall and the other a rise."""
    fitted = log(growth) * layers
    if fitted * measured <= 0:
        return 1.0
    return exp(max(min(min(fitted, measured, key=abs), 500.0), -500.0))


# ---------------------------------------------------------------- the way of the signal
def stretches(model: Evidence) -> Iterator[Stretch]:
    """For each output, what leads to it since a normalisation, an input or a table set the scale."""
    for trunk in trunks(model):
        part = _unnormalised(model, trunk)
        steps = _steps(part[1:])
        if len(steps) >= FEWEST:
            yield Stretch(part[0], steps)


def gradient_paths(model: Evidence) -> Iterator[GradientPath]:
    """For each output, the signals on the way back through which a gradient flows."""
    for trunk in trunks(model):
        steps = tuple(s for s in _steps(takewhile(_typical, trunk)) if backward_level(s) > -inf)
        if len(steps) >= FEWEST:
            yield GradientPath(steps)


def _typical(signal: Signal) -> bool:
    """No batch norm over so few values that most of the gradient is taken out: of n, it leaves n - 2 free."""
    return signal.function != "batch_norm" or signal.observations >= CROWD


def trunks(model: Evidence) -> Iterator[tuple[Signal, ...]]:
    """For each output, the signals on the way to it: along the stream of residual sums, else the largest."""
    for end in model.signals:
        if end.leaves:
            way = [end]
            while (before := upstream(model, way[-1])) is not None:
                way.append(before)
            yield tuple(reversed(way))


def upstream(model: Evidence, signal: Signal) -> Signal | None:
    """The signal that this one is mostly made of."""
    known = [s for s in sources(model, signal) if s.kind != "softmax"] or sources(model, signal)
    if not known:
        return None
    if signal.residual:
        return known[0]
    if signal.kind in ("other", "attention") and signal.function == "product":
        # Of two factors the one that has come further is the signal: an adjacency or a mask is given.
        return max(known, key=lambda s: (s.depth, level(s)))
    return max(known, key=lambda s: (level(s), s.depth))


def downstream(
    model: Evidence, node: str, *, until: Callable[[Signal], bool] = lambda signal: False
) -> Iterator[Signal]:
    """The signals that a node's output flows into, in order of execution; no further than `until` holds."""
    reached = {node}
    for signal in model.signals:
        if signal.node not in reached and not reached.isdisjoint(signal.sources):
            yield signal
            if not until(signal):
                reached.add(signal.node)


def sources(model: Evidence, signal: Signal) -> list[Signal]:
    """The signals that this one is made from."""
    return [s for node in signal.sources if (s := model.signals_by_node.get(node)) is not None]


def _steps(signals: Iterable[Signal]) -> tuple[Signal, ...]:
    return tuple(s for s in signals if s.residual or s.kind == "weight")


def _unnormalised(model: Evidence, trunk: Sequence[Signal]) -> list[Signal]:
    """The end of a trunk behind the last normalisation, up to what is zero on purpose."""
    part: list[Signal] = []
    for signal in trunk:
        if level(signal) == -inf or _zero(model, signal):
            break
        if is_rescaled(model, signal):
            part = []
        part.append(signal)
    return part


def is_rescaled(model: Evidence, signal: Signal) -> bool:
    """The signal is, or comes from, a normalisation that brings the difference between inputs back."""
    if signal.kind == "norm":
        return variation(signal) > RESTORED
    uses = [tensor.use for tensor in model.named(signal.weights)]
    return signal.kind == "weight" and any(use is not None and use.normalised_before for use in uses)


def _zero(model: Evidence, signal: Signal) -> bool:
    """All weights applied here are zero: what follows depends on no input, and is meant to."""
    figures = [weight.statistics for weight in weights(model, signal)]
    return signal.kind == "weight" and bool(figures) and all(f is not None and f.absmax == 0 for f in figures)


# ---------------------------------------------------------------- who is to blame
def weights(model: Evidence, signal: Signal) -> tuple[Tensor, ...]:
    """The matrices, kernels and tables applied at a signal; for a residual sum, the last of its branch."""
    if signal.residual:
        return _branch_end(model, signal)
    return tuple(t for t in model.named(signal.weights) if t.use is not None and t.use.role in WEIGHTS)


def _branch_end(model: Evidence, total: Signal) -> tuple[Tensor, ...]:
    """The weights that a residual sum meets first on its branch."""
    signal = next(iter(sources(model, total)[1:]), None)
    while signal is not None and signal.node != total.sources[0] and not signal.residual:
        if found := weights(model, signal):
            return found
        signal = upstream(model, signal) if signal.kind != "norm" else None
    return ()


def step_gain(model: Evidence, signal: Signal) -> float:
    """What one step multiplies the signal by."""
    before = upstream(model, signal)
    return exp(level(signal) - level(before)) if before and variation(before) and variation(signal) else 1.0


def rms_beside(model: Evidence, bias: UsedTensor) -> float | None:
    """Rms of what a bias is added to; None where the probe does not tell."""
    added = model.output_of(bias)
    if added is not None and bias.name in added.weights and bias.statistics.constant:
        return added.forward.std
    weight = model.weight_of(bias)
    if weight is not None and not weight.use.wiring.unit:
        if weight.use.role == "gain":
            return weight.statistics.rms
        if weight.use.fan_in:
            signal = model.output_of(weight)
            arriving = signal.input_rms if signal is not None and signal.input_rms is not None else 1.0
            return weight.statistics.rms * sqrt(weight.use.fan_in) * arriving
    signal = model.output_of(bias)
    if signal is None or signal.across_inputs is None:
        return None
    return signal.across_inputs * signal.forward.rms


def still_differs(model: Evidence, before: Signal) -> bool:
    """The layer is not zero on purpose, and what goes into it still differs between inputs."""
    given = upstream(model, before)
    return before.forward.absmax > 0 and (
        given is None or given.across_inputs is None or variation(given) > 0
    )


def chance_of_dead(before: Signal, inputs: int) -> float:
    """How often a unit of a healthy layer whose pre-activations vary as these do is never positive."""
    if before.across_inputs is None:
        return 0.5
    varying = before.across_inputs * before.forward.rms
    shared = max(before.forward.std**2 - varying**2, 0.0) ** 0.5
    return never_positive(shared, varying, inputs * before.independence)
