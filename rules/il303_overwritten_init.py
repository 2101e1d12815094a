"""IL303 overwritten-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.locations import callers, line, phrase
from initlint.analysis.rewrites import overwritings

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class OverwrittenInit(Rule):
    """A value set on purpose that a blanket initialiser wrote over.

    A layer's own choice (zeros at the end of a branch, an orthogonal matrix, a gate bias, loaded weights)
    holds only until a loop over all modules gives every layer the same draw. Nothing tells that the
    earlier line had no effect.

    Run the blanket initialiser first, or let it skip what was set on purpose.
    """

    code = "IL303"
    name = "overwritten-init"
    severity = "warning"
    level = "write"
    needs = frozenset({"provenance"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for tensor, special, blanket, written, sure in overwritings(model):
            yield self.finding(
                tensor,
                f"set by {phrase(special)}, then overwritten by {phrase(blanket)}, "
                f"which wrote {len(written)} tensors",
                measured={"last write": blanket.operation},
                expected={"last write": special.operation},
                severity=None if sure else "note",
                help=f"run {line(blanket.site)} before {line(special.site)}, or let it skip this parameter",
                site=blanket.site,
                locations=(*callers(blanket), Location(special.site, "the value that was lost")),
            )
