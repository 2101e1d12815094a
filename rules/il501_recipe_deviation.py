"""IL501 recipe-deviation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.recipes import known

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class RecipeDeviation(Rule):
    """A known construction that does not start as its method asks.

    Adapters, gated branches, sine layers, state spaces and dense detectors each come with an initialisation
    that their results depend on. The construction is recognised by how its tensors are used, not by name.

    Follow the paper that the finding cites, in every block, layer and direction. A deviation is a note
    unless part of the construction follows the recipe, or frozen weights are shown to be disturbed.
    """

    code = "IL501"
    name = "recipe-deviation"
    severity = "note"
    level = "recipe"
    needs = frozenset({"provenance", "statistics", "graph", "probe"})
    explained_by = {"inconsistent-init": "same", "discarded-write": "same"}

    def check(self, model: Evidence) -> Iterator[Finding]:
        reported: set[str] = set()
        for recipe in known():
            for deviation in recipe.deviations(model):
                if deviation.subject.name in reported:
                    continue
                # A package that offers several adapters starts each as its paper says.
                if recipe.adapter and deviation.subject.published:
                    continue
                reported |= {deviation.subject.name, *deviation.related}
                yield self.finding(
                    deviation.subject,
                    f"{recipe.name}: {deviation.message}",
                    help=f"{deviation.help} ({recipe.reference})",
                    measured=deviation.measured,
                    expected=deviation.expected,
                    severity="warning" if deviation.harms else None,
                    site=deviation.site,
                    related=deviation.related,
                    locations=deviation.locations,
                )
