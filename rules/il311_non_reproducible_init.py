"""IL311 non-reproducible-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule

if TYPE_CHECKING:
    from initlint import Evidence, Finding


WHOSE = {
    "python": "with Python's generator seeded as well they agree",
    "numpy": "with NumPy's generator seeded as well they agree",
    "unseeded": "also with Python's and NumPy's generators seeded",
}


class NonReproducibleInit(Rule):
    """Values that differ between two builds under the same torch seed.

    They come from a generator that torch.manual_seed does not control: NumPy's, Python's, or one that takes
    its seed from the clock. Runs cannot be repeated, and ranks that seed torch alone start from other models.

    Draw with torch, or give the other generator torch's seed: `default_rng(torch.initial_seed())`.

    References:
        PyTorch documentation, Reproducibility.
    """

    code = "IL311"
    name = "non-reproducible-init"
    severity = "warning"
    needs = frozenset({"provenance", "rebuild"})

    #: lines shown: those of the first values tell the story, further ones repeat it
    lines: int = 8

    def check(self, model: Evidence) -> Iterator[Finding]:
        rebuild = model.rebuild
        if rebuild is None or not rebuild.differing:
            return
        tensors = [model.by_name[name] for name in rebuild.differing if name in model.by_name]
        drawn = [t.provenance.drawn or t.site for t in tensors]
        written = [t.site for t in tensors]
        sites = dict.fromkeys(s for s in (rebuild.reseeded, *drawn, *written) if s is not None)
        site = next(iter(sites), None)
        first, *related = rebuild.differing
        yield self.finding(
            first,
            f"{len(rebuild.differing)} of {len(model.tensors)} tensors differ between two builds under one "
            f"torch seed; {WHOSE[rebuild.generator]}",
            measured={"differing": len(rebuild.differing)},
            expected={"differing": 0},
            help="draw with torch, or seed the other generator from torch.initial_seed()",
            site=site,
            related=related,
            locations=[Location(s, "written here") for s in list(sites)[1 : self.lines]],
        )
