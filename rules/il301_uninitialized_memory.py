"""IL301 uninitialized-memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.locations import callers

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Provenance


class UninitializedMemory(Rule):
    """A parameter or buffer that holds memory nothing wrote.

    torch.empty, torch.Tensor(n) and to_empty hand out whatever the memory held before: sometimes zeros,
    sometimes the values of another model, sometimes NaN. Training then works or fails by chance.

    Write every element in the constructor, or call the initialiser that was meant to.
    """

    code = "IL301"
    name = "uninitialized-memory"
    severity = "error"
    level = "memory"
    needs = frozenset({"provenance"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for tensor in model.tensors:
            origin = tensor.provenance
            if not origin.unwritten:
                continue
            owner = model.modules_by_path.get(tensor.owner)
            uncalled = owner is not None and owner.has_reset and not owner.reset_called
            share = "" if origin.unwritten == tensor.elements else f"{origin.unwritten} of "
            yield self.finding(
                tensor,
                f"{share}{tensor.elements} values come from {origin.allocator} and were never written"
                + (f"; {tensor.owner_class} defines an initialiser that was not called" if uncalled else ""),
                measured={"unwritten": origin.unwritten},
                expected={"unwritten": 0},
                help="call the initialiser in the constructor" if uncalled else "write every element",
                site=origin.allocation,
                locations=[
                    *(
                        [Location(owner.reset_site, "never called")]
                        if owner and uncalled and owner.reset_site
                        else ()
                    ),
                    *_lost(origin),
                ],
            )


def _lost(origin: Provenance) -> Iterator[Location]:
    """What had been computed for the tensor before to_empty gave it other memory."""
    if origin.emptied and origin.origins:
        nearest = origin.origins[0]
        yield Location(nearest.site, "computed here, but without memory")
        yield from callers(nearest)
