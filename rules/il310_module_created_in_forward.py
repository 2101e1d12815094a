"""IL310 module-created-in-forward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class ModuleCreatedInForward(Rule):
    """Trainable parameters that are made during forward.

    The optimizer was given its parameters before: what forward makes is never trained. Made anew at each
    call it is even drawn anew, so that the model gives another answer to the same input every time.

    Make layers in the constructor; where a size is only known from the input, use nn.LazyLinear and the like.

    References:
        PyTorch documentation, nn.modules.lazy.LazyModuleMixin.
    """

    code = "IL310"
    name = "module-created-in-forward"
    severity = "error"
    needs = frozenset({"graph", "probe"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for item in model.created_in_forward:
            if item.reached and item.trainable:
                yield self.finding(
                    item.path,
                    f"{item.elements} trainable values were made in the forward of "
                    f"{item.owner or 'the model'} and took part in it",
                    measured={"made in forward": item.elements},
                    expected={"made in forward": 0},
                    help="make it in the constructor and assign it to an attribute",
                    site=item.site,
                    related=[item.owner] if item.owner else (),
                    locations=[Location(item.assigned, "called in forward")]
                    if item.assigned is not None and item.assigned != item.site
                    else (),
                )
