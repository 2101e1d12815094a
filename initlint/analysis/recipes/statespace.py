"""Selective state spaces: step sizes and decay rates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint.analysis.recipes.recipe import Deviation, Recipe
from initlint.analysis.recipes.similarity import effective

if TYPE_CHECKING:
    from initlint.evidence import Evidence, UsedTensor

LEAST, MOST = 1e-3, 1e-1  # steps at the start (section 3.6)
SLACK = 3.0  # beyond the range by this before it is a deviation
FASTEST = 1e3  # decay rates; Mamba starts at 1 to 16


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _rates(model: Evidence) -> list[UsedTensor]:
    """Logarithms of decay rates: exponentiated before they meet the data, and again with it."""
    return [
        t
        for t in model.used_parameters
        if t.use.activation == "exp" and any(step.operation == "exp" for step in t.use.wiring.steps)
    ]


def _steps(model: Evidence, rate: UsedTensor) -> list[UsedTensor]:
    """Biases of the step sizes that belong to a decay rate."""
    return [
        t
        for t in model.used_parameters
        if t.use.role in ("shift", "scalar", "table")
        and t.use.activation == "softplus"
        and (not rate.owner or t.owner == rate.owner or t.owner.startswith(f"{rate.owner}."))
    ]


def _deviations(model: Evidence) -> Iterator[Deviation]:
    for rate in _rates(model):
        figures = rate.statistics
        biases = _steps(model, rate)
        if not biases:
            continue
        for bias in biases:
            yield from _step(bias)
        fastest = effective(figures.maximum, rate.use.wiring.steps)
        if figures.constant and figures.count > 1:
            yield Deviation(
                subject=rate,
                message=f"every value is {figures.mean:.3g}, so that all {figures.count} states decay alike",
                help="set it to the logarithm of 1 to N along the states, or of uniform values in [1, 16]",
                measured={"std": 0.0},
                expected={"std": "above 0"},
            )
        elif fastest is not None and abs(fastest) > FASTEST:
            yield Deviation(
                subject=rate,
                message=f"reaches {abs(fastest):.3g} through exp: the rate itself, not its logarithm",
                help="store the logarithm of the decay rates",
                measured={"largest rate": abs(fastest)},
                expected={"largest rate": f"below {FASTEST:g}"},
            )


def _step(bias: UsedTensor) -> Iterator[Deviation]:
    figures = bias.statistics
    low, high, middle = _softplus(figures.minimum), _softplus(figures.maximum), _softplus(figures.mean)
    if LEAST / SLACK <= middle <= MOST * SLACK and not (figures.constant and figures.count > 1):
        return
    same = figures.constant and figures.count > 1
    yield Deviation(
        subject=bias,
        message=f"the step size starts at {middle:.3g} for all {figures.count} channels"
        if same
        else f"the step sizes start between {low:.3g} and {high:.3g}",
        help="draw steps log-uniformly in [0.001, 0.1] and store the inverse softplus",
        measured={"step": middle},
        expected={"step": f"{LEAST:g} to {MOST:g}"},
    )


def _decays(model: Evidence) -> Iterator[Deviation]:
    """Vectors w of which exp(-exp(w)), or what that is multiplied with, forgets a state by the channel."""
    for decay in model.used_parameters:
        figures = decay.statistics
        if not figures.constant or figures.count < 2:
            continue
        names = [step.operation for step in decay.use.wiring.steps]
        if any(names[i : i + 3] == ["exp", "neg", "exp"] for i in range(len(names))):
            kept = math.exp(-math.exp(min(figures.mean, 50.0)))
            yield Deviation(
                subject=decay,
                message=f"every value is {figures.mean:.3g}, so that all {figures.count} channels keep "
                f"{kept:.3g} of their state at each step",
                help="spread the decays over the channels, from states that last to states that do not",
                measured={"std": 0.0},
                expected={"std": "above 0"},
            )


RECURRENCE = Recipe(
    name="linear recurrence",
    asks="the decays exp(-exp(w)) of the channels are spread between lasting and short-lived states",
    reference="Orvieto et al., Resurrecting Recurrent Neural Networks for Long Sequences, 2023, section 3.3; "
    "Peng et al., RWKV, 2023, appendix E",
    deviations=_decays,
)
MAMBA = Recipe(
    name="state space",
    asks="steps log-uniform in [0.001, 0.1], stored as inverse softplus; decay rates spread from 1 to N",
    reference="Gu & Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, 2023, section 3.6",
    deviations=_deviations,
)
