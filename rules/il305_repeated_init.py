"""IL305 repeated-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.locations import callers, line, phrase
from initlint.analysis.rewrites import double_inits, repetitions, stuck_indices

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class RepeatedInit(Rule):
    """A parameter initialised twice where once was meant.

    Two lines that write the same parameter, beside a sibling that no line writes, are a name copied and
    not changed; a loop that writes one member of a list at every turn has an index that it does not use. An
    operation on the values themselves (scaling, a logarithm) that runs again gives another result each
    time: an initialiser that does so must not be called from two places, nor by `apply` both on a module and
    on what holds it.

    Name the sibling in one of the two lines; draw or copy fresh values before transforming them in place.
    """

    code = "IL305"
    name = "repeated-init"
    severity = "warning"
    level = "write"
    needs = frozenset({"provenance"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for tensor, first, second, writes, sibling in double_inits(model):
            yield self.finding(
                (tensor, sibling),
                f"written by {writes[0].operation} at {line(first)} and again at {line(second)}; "
                f"{sibling.name} beside it is written by neither",
                measured={"writes": 2},
                expected={"writes": 1},
                help=f"name {sibling.name} in one of the two lines",
                site=second,
                locations=[Location(first, "the first write, without effect")],
            )
        for tensor, write, missed in stuck_indices(model):
            turns = len(missed) + 1
            yield self.finding(
                (tensor, *missed),
                f"{phrase(write)} wrote {tensor.name} {turns} times, and of the {turns} members of its list "
                "no other one",
                measured={"writes": turns},
                expected={"writes": 1},
                help="use the index of the loop, so that each turn writes the member that it is for",
                site=write.site,
                locations=callers(write),
            )
        for tensor, write, again, times in repetitions(model):
            yield self.finding(
                tensor,
                f"{phrase(write)} was applied {times} times to its own result",
                measured={"times": times},
                expected={"times": 1},
                help="draw or copy fresh values before the operation, or call the initialiser once",
                site=again.site,
                locations=(*callers(again), *callers(write)),
            )
