"""Scales of the cosines that go into a contrastive or cosine softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from initlint.analysis.recipes.recipe import Deviation, Recipe
from initlint.analysis.signal_path import is_used

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Step, UsedTensor

#: Cosines lie in [-1, 1]. CLIP starts at 1/0.07 = 14.3 and clips at 100 (section 2.5), SigLIP starts at 10,
#: cosine classifiers use 10 (Gidaris & Komodakis 2018) to 64 (ArcFace 2019).
LEAST, MOST = 5.0, 100.0

_FUNCTIONS: dict[str, Callable[[float, float], float]] = {
    "exp": lambda x, _: math.exp(min(x, 700.0)),
    "neg": lambda x, _: -x,
    "reciprocal": lambda x, _: 1 / x if x else math.inf,
    "softplus": lambda x, _: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
    "sigmoid": lambda x, _: 1 / (1 + math.exp(-min(max(x, -700.0), 700.0))),
    "tanh": lambda x, _: math.tanh(x),
    "sqrt": lambda x, _: math.sqrt(max(x, 0.0)),
    "rsqrt": lambda x, _: 1 / math.sqrt(x) if x > 0 else math.inf,
    "square": lambda x, _: x * x,
    "abs": lambda x, _: abs(x),
    "exp2": lambda x, _: 2.0 ** min(x, 1000.0),
    "mul": lambda x, k: x * k,
    "add": lambda x, k: x + k,
    "sub": lambda x, k: x - k,
    "pow": lambda x, k: x**k if x > 0 else math.nan,
    "clamp": lambda x, _: x,
    "clamp_max": lambda x, _: x,
    "clamp_min": lambda x, _: x,
    "clip": lambda x, _: x,
}


def effective(value: float, steps: Sequence[Step]) -> float | None:
    """What a stored value has become when it meets the data; None after a function that is not known."""
    for step in steps:
        function = _FUNCTIONS.get(step.operation)
        if function is None or (step.value is None and step.operation in ("mul", "add", "sub", "pow")):
            return None
        value = function(value, step.value or 0.0)
    return value if math.isfinite(value) else None


def _handed_out(tensor: UsedTensor) -> bool:
    """The scale leaves the model beside the vectors, for the loss to apply: only its name says what it is."""
    named = any(word in tensor.local_name for word in ("logit_scale", "temperature"))
    return tensor.use.operation == "output" and tensor.elements == 1 and named


def _deviations(model: Evidence) -> Iterator[Deviation]:
    for tensor in model.tensors:
        if not is_used(tensor) or not tensor.statistics.constant:
            continue
        use, figures = tensor.use, tensor.statistics
        if not use.wiring.cosine and not _handed_out(tensor):
            continue
        factor = effective(figures.mean, use.wiring.steps)
        logarithm = any(step.operation == "exp" for step in use.wiring.steps)
        if factor is None or (not use.reaches_output and not (logarithm and figures.mean == 1)):
            continue
        if LEAST <= abs(factor) <= MOST:
            continue
        through = f" through {', '.join(s.operation for s in use.wiring.steps)}" if use.wiring.steps else ""
        yield Deviation(
            subject=tensor,
            message=f"{figures.mean:.3g}{through} scales cosines by {factor:.3g}, "
            + (
                "so that the softmax starts nearly flat"
                if abs(factor) < LEAST
                else "so that the softmax is hard"
            ),
            help="start at log(1/0.07) and apply exp, or at 1/0.07 without it",
            measured={"scale": factor},
            expected={"scale": f"{1 / 0.07:.3g} ({LEAST:g} to {MOST:g})"},
        )


LOGIT_SCALE = Recipe(
    name="logit scale",
    asks="cosines are scaled by 1/0.07 at the start, the stored parameter is its logarithm",
    reference="Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021, "
    "section 2.5",
    deviations=_deviations,
)
