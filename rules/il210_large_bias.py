"""IL210 large-bias."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis import symptoms
from initlint.analysis.remedies import fill
from initlint.analysis.signal_path import downstream, rms_beside

if TYPE_CHECKING:
    from initlint import Evidence, Finding, UsedTensor


class LargeBias(Rule):
    """A bias so large that it alone decides what its units put out.

    Beside it the input makes no difference: a rectifier is always on or always off, tanh and sigmoid stand
    on their flat part, a residual stream carries one constant. Training first has to undo the bias.

    Start biases at or near zero. Priors in front of a sigmoid, forget gates and the step sizes of
    state-space models are large on purpose.

    References:
        Lin et al., Focal loss for dense object detection, 2017, section 4.1: prior probability 0.01.
        Jozefowicz et al., An empirical exploration of recurrent network architectures, 2015: forget bias 1.
    """

    code = "IL210"
    name = "large-bias"
    severity = "warning"
    level = "comparison"
    needs = frozenset({"provenance", "statistics", "graph", "probe"})
    explained_by = {"dead-units": "same", "saturated-activation": "same"}
    sigmas: float = 4.0  #: bias over what input and weight add: the sign changes once in 30 000 inputs
    least: float = 3.0  #: below this tanh, gelu and their kin still bend
    rarest: float = -log(1e-4)  #: log odds of the rarest prior, and of the shortest step, in use
    #: Log odds of one object among the cells and classes of a detection head: 1e-5 at a stride of 8.
    sparsest: float = -log(1e-6)
    units: float = 0.5  #: share of the units; the forget gates of a fused bias are a quarter

    def check(self, model: Evidence) -> Iterator[Finding]:
        for bias in model.used_parameters:
            use, figures = bias.use, bias.statistics
            if use.role != "shift" or _taken_out(model, bias):
                continue
            spread = rms_beside(model, bias)
            if spread is None or (spread == 0 and not figures.constant) or _beside_zeros(model, bias):
                continue
            squashed = use.reaches_output or use.activation in ("sigmoid", "softplus", "exp", "logsigmoid")
            limit = max(self.sigmas * spread, self.rarest if squashed else self.least)
            lowest = max(limit, self.sparsest) if use.reaches_output and _dense(model, bias) else limit
            share = sum(x > limit or x < -lowest for x in figures.sample) / max(len(figures.sample), 1)
            if share > self.units:
                yield self.finding(
                    bias,
                    f"rms {figures.rms:.3g}, where input and weight add about ±{spread:.3g}: the bias alone "
                    f"decides the output of {share:.0%} of the units",
                    help="start the bias at zero",
                    suggestion=fill(bias, 0.0),
                    measured={"rms": figures.rms},
                    expected={"rms": f"below {limit:.3g}"},
                )


def _beside_zeros(model: Evidence, bias: UsedTensor) -> bool:
    """A layer whose weight starts at zero starts as the constant that somebody chose: a gate, a prior."""
    weight = model.weight_of(bias)
    return weight is not None and not weight.use.ends_residual and weight.statistics.absmax == 0


def _dense(model: Evidence, bias: UsedTensor) -> bool:
    """Its outputs are rows of values for many places, of which few hold an object."""
    signal = model.output_of(bias)
    return signal is not None and len(signal.shape) > 2


def _taken_out(model: Evidence, bias: UsedTensor) -> bool:
    """The mean of every unit is subtracted again, or a softmax cancels what all its choices share."""
    use = bias.use
    if use.activation == "softmax" and use.parts == 1:  # of fused projections the values reach the output
        return bias.statistics.constant if use.reaches_output else not symptoms.is_saturated(model, bias)
    if not use.normalised_after:
        return False
    norm = next((signal for signal in downstream(model, use.node) if signal.kind == "norm"), None)
    return norm is not None and norm.function in ("batch_norm", "instance_norm")
