"""Initialisations that methods ask for, one recipe each, over evidence alone."""

from __future__ import annotations

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

__all__ = ["ADAPTERS", "RECIPES", "Deviation", "Recipe"]

#: Those of what is added to a frozen model.
ADAPTERS: tuple[Recipe, ...] = (LORA, ADAPTER, VERA, IA3, ZERO_CONVOLUTION)

#: All recipes. Of several that speak of one tensor the first counts.
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
