"""IL304 partial-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.locations import callers, line, phrase
from initlint.analysis.missed_members import Gap, gaps, placeholders, twins, unmatched_starts

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Site


class PartialInit(Rule):
    """An initialiser that missed members it was meant for.

    A layer made after the initialiser ran, a second recurrent layer or direction: the missed members
    silently keep PyTorch's defaults, and the scheme that the code describes is not the one that the model
    starts from.

    A block of a list or a recurrent matrix that alone was closed, and a table that still holds the constant
    it was allocated with while its twin got values, may be meant: they are notes.

    Run the initialiser last, or call it for the other members as well.
    """

    code = "IL304"
    name = "partial-init"
    severity = "warning"
    level = "write"
    needs = frozenset({"provenance"})
    explained_by = {"unmatched-init": "same", "uncalled-init": "same"}

    _reasons = {
        "recurrent": "a layer or direction of the same recurrent module",
        "index": "a member of the same list",
        "later": "a layer that the same function makes afterwards",
        "closed": "a layer of another block of the same list",
    }

    def check(self, model: Evidence) -> Iterator[Finding]:
        for gap in gaps(model):
            yield self._one_value(gap) if gap.kind == "constant" else self._gap(gap)
        yield from self._placeholders(model)
        yield from self._twins(model)

    def _gap(self, gap: Gap) -> Finding:
        others = (Location(write.site, "another of its lines") for write in gap.others)
        return self.finding(
            gap.missed,
            f"keeps PyTorch's default, while {phrase(gap.write)} wrote {gap.reached[0].name}, "
            f"{self._reasons[gap.kind]}",
            measured={"initialised": len(gap.reached)},
            expected={"initialised": len(gap.reached) + len(gap.missed)},
            severity="note" if gap.kind == "closed" else self.note_if_published(gap.missed),
            help="let the initialiser run over all of them, after the last one is made",
            site=gap.write.site,
            locations=[*callers(gap.write), *others, *_made(gap.missed[0].provenance.construction)],
        )

    def _one_value(self, gap: Gap) -> Finding:
        others = ", ".join(tensor.local_name for tensor in gap.missed)
        return self.finding(
            (*gap.reached, *gap.missed),
            f"{phrase(gap.write)} set it to one value, while {others} of the same recurrent module keep "
            "PyTorch's default",
            measured={"initialised": len(gap.reached)},
            expected={"initialised": len(gap.reached) + len(gap.missed)},
            severity="note",
            help="set all of them, or leave all as they are drawn",
            site=gap.write.site,
            locations=callers(gap.write),
        )

    def _placeholders(self, model: Evidence) -> Iterator[Finding]:
        for left, twin, write in placeholders(model):
            yield self.finding(
                (left, twin),
                f"still holds what {left.provenance.writes[0].operation} allocated, while {phrase(write)} "
                f"wrote its twin {twin.name}",
                measured={"initialised": 1},
                expected={"initialised": 2},
                help=f"give it values as {twin.name} gets them at {line(write.site)}",
                severity="note",
                locations=[Location(write.site, f"{twin.name} gets its values"), *callers(write)],
            )

    def _twins(self, model: Evidence) -> Iterator[Finding]:
        for layer, shift, other, like, write in unmatched_starts(model):
            yield self.finding(
                other,
                f"is drawn, while {layer.name}, the same layer of another module of its class, is zero and "
                f"{shift.name} holds the output to start from",
                measured={"initialised": 1},
                expected={"initialised": 2},
                help="start it the same way, or not at all",
                severity="note",
                locations=[
                    *_made(like.construction),
                    Location(write.site, f"{shift.name} gets its values"),
                    *callers(write),
                ],
            )
        for pair in twins(model):
            yield self.finding(
                pair.other,
                f"keeps PyTorch's defaults, while {phrase(pair.write)} initialised {pair.initialised.path}, "
                f"another {pair.other.class_name} beside it",
                measured={"initialised": 1},
                expected={"initialised": 2},
                help=f"initialise {pair.other.path} like {pair.initialised.path} at {line(pair.write.site)}",
                severity="note",
                site=pair.write.site,
                locations=callers(pair.write),
            )


def _made(site: Site | None) -> Iterator[Location]:
    if site is not None:
        yield Location(site, "the missed one is made here")
