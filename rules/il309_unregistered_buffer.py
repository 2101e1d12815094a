"""IL309 unregistered-buffer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.locations import holder, origin

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class UnregisteredBuffer(Rule):
    """A tensor that takes part in forward, but is neither parameter nor buffer.

    `model.to(device)` leaves it where it is, so that the forward fails on any other device; and if its
    values are drawn, a model restored from a checkpoint computes with others than the one that was saved.

    Register it: `self.register_buffer(name, tensor)`, with `persistent=False` if it can be computed again.

    References:
        PyTorch documentation, nn.Module.register_buffer.
    """

    code = "IL309"
    name = "unregistered-buffer"
    severity = "warning"
    needs = frozenset({"provenance", "graph", "probe"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for item in model.unregistered:
            if item.trainable or not item.reached or item.scalar or item.persistent_state:
                continue
            if item.kind == "buffer" and (item.random or not item.moved):
                harm = (
                    "state_dict() does not save its drawn values" if item.moved else "to() does not move it"
                )
                yield self.finding(
                    item.path,
                    f"takes part in forward, but {holder(item)} holds its {item.elements} values: {harm}",
                    measured={"registered": 0},
                    expected={"registered": 1},
                    help=f'register it: self.register_buffer("{item.path.rpartition(".")[2]}", …)',
                    site=item.site,
                    severity="note" if item.site is not None and item.site.package is not None else None,
                    locations=origin(item),
                )
