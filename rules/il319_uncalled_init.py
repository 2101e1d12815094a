"""IL319 uncalled-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.missed_members import uncalled_initialisers

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class UncalledInit(Rule):
    """An initialiser that nothing calls.

    A class defines how its weights start, in `reset_parameters` or `_init_weights` say, and its constructor
    does not run it: every weight keeps PyTorch's default, and the model is not the one that the code
    describes.

    Call it at the end of the constructor, after the last layer is made.
    """

    code = "IL319"
    name = "uncalled-init"
    severity = "warning"
    level = "write"
    needs = frozenset({"provenance"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for module, drawn in uncalled_initialisers(model):
            yield self.finding(
                drawn,
                f"{module.class_name} defines an initialiser that nothing called: "
                f"{len(drawn)} weights keep PyTorch's defaults",
                measured={"calls": 0},
                expected={"calls": 1},
                help="call it at the end of the constructor, or remove it",
                severity=None if module.package is None else "note",
                site=module.reset_site,
                locations=[Location(module.construction, "made here")] if module.construction else (),
            )
