"""Initialisations that methods ask for, one recipe each, over evidence alone."""

from __future__ import annotations

from initlint.recipes.adapters import ADAPTER, LORA
from initlint.recipes.depth import GPT2
from initlint.recipes.modulation import ADALN_ZERO
from initlint.recipes.recipe import Deviation, Recipe
from initlint.recipes.similarity import LOGIT_SCALE

__all__ = ["RECIPES", "Deviation", "Recipe"]

#: All recipes, in the order in which they are tried.
RECIPES: tuple[Recipe, ...] = (LORA, ADAPTER, ADALN_ZERO, GPT2, LOGIT_SCALE)
