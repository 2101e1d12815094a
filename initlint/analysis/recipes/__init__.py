"""Initialisations that methods ask for, one recipe each, over evidence alone."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from initlint.analysis.recipes.adapters import ADAPTER, IA3, LORA, VERA
from initlint.analysis.recipes.depth import GPT2
from initlint.analysis.recipes.detection import PRIOR
from initlint.analysis.recipes.modulation import ADALN_ZERO
from initlint.analysis.recipes.recipe import Deviation, Recipe
from initlint.analysis.recipes.recurrent import FORGET_BIAS
from initlint.analysis.recipes.residual import TANH_GATE, ZERO_BRANCH, ZERO_CONVOLUTION
from initlint.analysis.recipes.similarity import LOGIT_SCALE
from initlint.analysis.recipes.sine import SIREN
from initlint.analysis.recipes.statespace import MAMBA, RECURRENCE
from initlint.errors import PackError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "RECIPES", "Deviation", "Recipe", "known"]

#: Entry points of packs: each names a tuple of recipes.
GROUP = "initlint.recipes"

#: Of several that speak of one tensor the first counts.
RECIPES: tuple[Recipe, ...] = (
    LORA,
    ADAPTER,
    VERA,
    IA3,
    ADALN_ZERO,
    TANH_GATE,
    ZERO_CONVOLUTION,
    GPT2,
    ZERO_BRANCH,
    SIREN,
    FORGET_BIAS,
    LOGIT_SCALE,
    MAMBA,
    RECURRENCE,
    PRIOR,
)


@cache
def known() -> tuple[Recipe, ...]:
    """The recipes above, then those that installed packs offer; raises PackError."""
    from importlib.metadata import entry_points

    return (*RECIPES, *(recipe for point in entry_points(group=GROUP) for recipe in _offered(point)))


def _offered(point: EntryPoint) -> tuple[Recipe, ...]:
    try:
        offered = point.load()
    except Exception as error:
        why = f"cannot be imported: {type(error).__name__}: {error}"
        raise PackError(f"entry point {point.name!r} of {GROUP} {why}") from error
    if not isinstance(offered, tuple) or not all(isinstance(recipe, Recipe) for recipe in offered):
        raise PackError(
            f"entry point {point.name!r} of {GROUP} names {point.value}, which is no tuple of recipes"
        )
    return offered
