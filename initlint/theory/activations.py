"""What activations do to the scale of a signal, and what initialisation theory expects of a weight.

A unit y = Σ wᵢ φ(xᵢ) over n = fan_in inputs has E[y²] = n·σ²·E[φ(x)²]. Asking for E[y²] = E[x²]
= 1 gives σ = g/√n with the gain g = 1/√E[φ(z)²], z ~ N(0, 1): LeCun et al., Efficient BackProp (1998),
§4.6 for tanh, Glorot & Bengio (2010) for linear units and for both directions at once (the mean of the
two fans), He et al., Delving Deep into Rectifiers (2015), §2.2 for ReLU and leaky ReLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from initlint.theory.sampling import NORMAL

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. (2017), §2


# ---------------------------------------------------------------- activations and gains
def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "leaky_relu": lambda x: max(x, 0.01 * x),
    "prelu": lambda x: max(x, 0.25 * x),  # PReLU's slope when training starts
    "rrelu": lambda x: max(x, 11 / 48 * x),
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "celu": lambda x: x if x > 0 else math.expm1(x),
    "selu": lambda x: SELU_SCALE * (x if x > 0 else SELU_ALPHA * math.expm1(x)),
    "gelu": lambda x: x * NORMAL.cdf(x),
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * math.tanh(_softplus(x)),
    "hardswish": lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "logsigmoid": lambda x: -_softplus(-x),
    "hardsigmoid": lambda x: min(max(x + 3, 0.0), 6.0) / 6,
    "tanh": math.tanh,
    "hardtanh": lambda x: min(max(x, -1.0), 1.0),
    "softsign": lambda x: x / (1 + abs(x)),
    "tanhshrink": lambda x: x - math.tanh(x),
    "relu_squared": lambda x: max(x, 0.0) ** 2,
}
"""Element-wise activations as functions of one pre-activation."""
#: Activations with flat ends, at which no gradient passes.
SATURATING = frozenset(
    {"sigmoid", "tanh", "hardtanh", "hardsigmoid", "softmax", "relu6", "erf", "logsigmoid"}
)

_SYNONYMS = {"none": "linear", "identity": "linear", "swish": "silu", "hard_swish": "hardswish"}
_SLOPES = {"relu": 0.0, "leaky_relu": 0.01, "prelu": 0.25}  # below zero


@lru_cache(maxsize=256)
def _second_moment(activation: str) -> float:
    """E[φ(z)²] for z ~ N(0, 1), by the trapezoidal rule (error below 1e-8)."""
    function = ACTIVATIONS[activation]
    step = 1 / 64
    weights = ((k * step, math.exp(-((k * step) ** 2) / 2)) for k in range(-10 * 64, 10 * 64 + 1))
    return math.fsum(w * function(z) ** 2 for z, w in weights) * step / math.sqrt(2 * math.pi)


def gain(activation: str | None) -> float | None:
    """Forward gain 1/√E[φ(z)²] that preserves the second moment; None for what is no activation we know.

    Exact values: linear 1, relu √2, leaky_relu √(2/(1+a²)) (He et al. 2015, eq. 15), selu 1 (its
    constants are made so that (0, 1) is the fixed point, Klambauer et al. 2017). tanh gives 1.5925. glu makes
    one output a·σ(b) of two: 1/√E[σ(z)²] (Gehring et al. 2017, appendix A, where σ is taken as ½: 2).
    `nn.init.calculate_gain` says 5/3 for tanh (a round figure near it), 3/4 for selu (a value that was
    found to train, not the one of the paper) and 1 for sigmoid (only right near 0, where it is linear).
    """
    name = _SYNONYMS.get(activation or "linear", activation or "linear")
    if name in _SLOPES:
        return math.sqrt(2 / (1 + _SLOPES[name] ** 2))
    if name in ("linear", "selu"):
        return 1.0
    if name == "glu":
        name = "sigmoid"
    if name not in ACTIVATIONS:
        return None
    return 1 / math.sqrt(_second_moment(name))


def assumed_gain(activation: str | None) -> float:
    """Gain to draw a weight with: `gain`, and that of a linear unit for what is no activation we know."""
    return gain(activation) or 1.0


PYTORCH_GAINS: dict[str, float] = {
    "linear": 1.0,
    "relu": math.sqrt(2),
    "leaky_relu": math.sqrt(2 / (1 + 0.01**2)),
    "tanh": 5 / 3,
    "selu": 3 / 4,
    "sigmoid": 1.0,
}
"""What `torch.nn.init.calculate_gain` returns."""


def expected_std(fan_in: int, activation: str | None = None) -> float:
    """Standard deviation g/√fan_in of a weight in front of `activation`, g the assumed gain.

    It makes up for what an activation takes of the second moment; in a plain stack the one behind the
    weight is the one in front of it as well (He et al. 2015, eq. 10).
    """
    return assumed_gain(activation) / math.sqrt(fan_in)


def default_bound(fan_in: int) -> float:
    """1/√n, n connections into a unit: the range [-1/√n, 1/√n] of PyTorch's Linear and Conv layers.

    That is `kaiming_uniform_(a=√5)`: √3·√(2/(1+5))/√n; the standard deviation is 1/√(3n).
    """
    return 1 / math.sqrt(max(fan_in, 1))


def fans(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(fan_in, fan_out) as `torch.nn.init` reads a stored shape; None below two dimensions.

    Dimension 1 times the receptive field, and dimension 0 times the receptive field.
    """
    if len(shape) < 2:
        return None
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive
