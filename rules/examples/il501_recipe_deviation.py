"""Models for IL501 recipe-deviation: those of every recipe."""

from __future__ import annotations

from .recipes import examples as by_recipe

examples = tuple(example for of_recipe in by_recipe.values() for example in of_recipe)
