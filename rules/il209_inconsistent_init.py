"""IL209 inconsistent-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.outliers import oddities

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Tensor
    from initlint.analysis.outliers import Oddity


class InconsistentInit(Rule):
    """A parameter that was initialised otherwise than its siblings.

    Layers of one stack, directions of one recurrent layer and branches of one block do the same work. If
    one of them starts at another scale, it was most likely left out of a loop, or caught by a branch of
    the initialiser that was meant for another layer. Neither does a single weight of a model need a scale
    that no scheme knows, when all others have a usual one.

    Initialise all siblings by the same line. A scale that falls with depth, a special first or last layer
    and a zero at the end of every branch are no oddities. A lone scale that was multiplied or
    made small is a note.
    """

    code = "IL209"
    name = "inconsistent-init"
    severity = "warning"
    level = "comparison"
    needs = frozenset({"provenance", "statistics"})
    explained_by = {"recipe-deviation": "same"}
    ratio: float = 1.5  #: factor between standard deviations below which the choice of scheme is taste
    shift: float = 0.25  #: difference that matters to a bias, in units of the pre-activation (about 1)

    def check(self, model: Evidence) -> Iterator[Finding]:
        seen: set[str] = set()
        found = oddities(model, ratio=self.ratio, shift=self.shift)
        for oddity in sorted(found, key=lambda oddity: oddity.kind == "named"):
            odd, typical = oddity.odd, oddity.typical[0]
            if odd.name in seen or odd.statistics is None or typical.statistics is None:
                continue
            seen.add(odd.name)
            count = len(oddity.typical)
            yield self.finding(
                odd,
                f"{_values(odd)} here, {_values(typical)} in {typical.name}"
                + (
                    f" and {count - 1} more {'of its kind' if oddity.kind else 'weights'}"
                    if count > 1
                    else ""
                )
                + (f": {oddity.write.operation} did not reach it" if oddity.missed else ""),
                severity="note" if not oddity.sure or (oddity.missed and oddity.kind == "named") else None,
                help="initialise it by the line that initialises its siblings"
                if oddity.missed
                else f"give it the scale of {'its siblings' if oddity.kind else 'the other weights'}",
                measured={"rms": odd.statistics.rms},
                expected={"rms": typical.statistics.rms},
                site=oddity.write.site,
                locations=_locations(oddity),
            )


def _values(tensor: Tensor) -> str:
    figures = tensor.statistics
    if figures is None:
        return "unknown values"
    if figures.constant:
        return f"every value {figures.mean:.3g}"
    return f"standard deviation {figures.std:.3g}"


def _locations(oddity: Oddity) -> Iterator[Location]:
    """The calls that led to the initialiser, and the lines that the odd one's values come from."""
    for site in oddity.write.callers:
        if site.package is None:
            yield Location(site, "called from here")
    if oddity.odd.site is not None and oddity.odd.site != oddity.write.site:
        yield Location(oddity.odd.site, f"{oddity.odd.name} keeps what was written here")
