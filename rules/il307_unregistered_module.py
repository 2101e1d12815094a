"""IL307 unregistered-module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.locations import holder, origin, registration

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class UnregisteredModule(Rule):
    """A trainable module that takes part in forward but is not registered.

    A list, dict, tuple or closure hides what it holds: `parameters()`, `to()`, `state_dict()` and the
    optimizer pass it by. It computes with its initial values for ever and is missing from checkpoints.

    Keep modules in nn.ModuleList or nn.ModuleDict, or assign them to attributes of the module.

    References:
        PyTorch documentation, nn.ModuleList.
    """

    code = "IL307"
    name = "unregistered-module"
    severity = "error"
    needs = frozenset({"provenance", "graph", "probe"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for item in model.unregistered:
            if item.kind != "module" or not item.trainable or not item.reached:
                continue
            yield self.finding(
                item.path,
                f"takes part in forward, but {holder(item)} holds it: its {len(item.parameters)} parameters "
                f"({item.elements} values) are not in model.parameters()",
                measured={"registered": 0},
                expected={"registered": len(item.parameters)},
                help=f"register it: {registration(item)}",
                site=item.site,
                locations=origin(item),
            )
