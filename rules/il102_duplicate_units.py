"""IL102 duplicate-units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Site, Tensor

_LINES = 3  # told of one computation


class DuplicateUnits(Rule):
    """Units of one layer that are exact copies, incoming and outgoing.

    Copies compute the same output and receive the same gradient, so they stay copies: the layer has fewer
    units than its shape says.

    Add noise to the copies, or draw the new units from a distribution.

    References:
        Chen, Goodfellow, Shlens, Net2Net, 2016, section 2.2: a small amount of noise breaks the symmetry.
    """

    code = "IL102"
    name = "duplicate-units"
    severity = "error"
    needs = frozenset({"statistics", "graph", "probe", "confirmation"})
    explained_by = {"identical-siblings": "same"}

    def check(self, model: Evidence) -> Iterator[Finding]:
        for weight in model.weights:
            figures, settled = weight.statistics, weight.confirmation
            if settled is None or figures.constant or settled.zero_gradient:
                continue
            if settled.stuck_units:
                yield self.finding(
                    weight,
                    f"{settled.stuck_units} of {settled.units} units are exact copies of another "
                    f"and still are after {settled.steps} training steps",
                    measured={"copied units": settled.stuck_units},
                    expected={"copied units": 0},
                    help="add noise to the copies, or draw the new units from a distribution",
                    locations=_computed(weight),
                )


def _computed(weight: Tensor) -> tuple[Location, ...]:
    """The nearest lines on which the values were put together, one operation each."""
    lines: dict[Site, Location] = {}
    for origin in weight.provenance.origins:
        lines.setdefault(origin.site, Location(origin.site, f"{origin.operation} here"))
    return tuple(lines.values())[:_LINES]
