"""IL304 partial-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.locations import callers, line, phrase
from initlint.analysis.missed_members import (
    Gap,
    gaps,
    placeholders,
    twins,
    uncalled_initialisers,
    unmatched_starts,
)

if TYPE_CHECKING:
    from initlint import Evidence, Finding, MemberTest, Miss, Site


class PartialInit(Rule):
    """An initialiser that missed members it was meant for.

    A test of a name, a class or an attribute that is never true, a layer made after the initialiser ran,
    a second recurrent layer or direction: the missed members silently keep PyTorch's defaults, and the
    scheme that the code describes is not the one that the model starts from.

    A block of a list or a recurrent matrix that alone was closed, and a table that still holds the constant
    it was allocated with while its twin got values, may be meant: they are notes.

    Widen the test, run the initialiser last, or call it for the other members as well.
    """

    code = "IL304"
    name = "partial-init"
    severity = "warning"
    level = "write"
    needs = frozenset({"provenance"})

    #: Names for one role: difflib gives cproj and outproj 0.67, query and key 0.5.
    similar_name: float = 0.6
    #: One attribute, misspelled: scaleinit and scaleinti have 0.89, inputscale and outputscale 0.76.
    similar_attribute: float = 0.85

    _reasons = {
        "recurrent": "a layer or direction of the same recurrent module",
        "index": "a member of the same list",
        "later": "a layer that the same function makes afterwards",
        "closed": "a layer of another block of the same list",
    }

    def check(self, model: Evidence) -> Iterator[Finding]:
        yield from self._tests(model)
        yield from self._gaps(model)
        yield from self._placeholders(model)
        yield from self._twins(model)
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

    def _tests(self, model: Evidence) -> Iterator[Finding]:
        for test in model.member_tests:
            missed = [miss for miss in test.missed if self._near(miss)]
            if test.kind == "object" or not missed:
                continue
            first, *others = missed
            yield self.finding(
                first.member,
                f"`{test.text}` is {'not' if test.passed else 'never'} true for it: {_instead(test, first)}",
                measured={"passed": test.passed},
                expected={"passed": test.passed + len(missed)},
                help="widen the test to what the model has",
                severity="note" if test.passed or first.relation == "part" else None,
                site=test.site,
                related=[miss.member for miss in others],
            )

    def _near(self, miss: Miss) -> bool:
        """Its spelling is near enough to what the test looks for."""
        least = {"part": self.similar_name, "attribute": self.similar_attribute}
        return miss.similarity >= least.get(miss.relation, 0.0)

    def _gaps(self, model: Evidence) -> Iterator[Finding]:
        for gap in gaps(model):
            if gap.kind == "constant":
                yield self._closed(gap)
                continue
            lines = (
                *callers(gap.write),
                *(Location(w.site, "another of its lines") for w in gap.others),
            )
            yield self.finding(
                gap.missed,
                f"keeps PyTorch's default, while {phrase(gap.write)} wrote {gap.reached[0].name}, "
                f"{self._reasons[gap.kind]}",
                measured={"initialised": len(gap.reached)},
                expected={"initialised": len(gap.reached) + len(gap.missed)},
                severity="note" if gap.kind == "closed" else self.note_if_published(gap.missed),
                help="let the initialiser run over all of them, after the last one is made",
                site=gap.write.site,
                locations=[*lines, *_made(gap.missed[0].provenance.construction)],
            )

    def _closed(self, gap: Gap) -> Finding:
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


def _instead(test: MemberTest, miss: Miss) -> str:
    """What a member is instead of what the test looks for."""
    found = {
        "name": f"{'the names are full ones, such ' if '.' in miss.found else ''}as {miss.found!r}",
        "part": f"of {test.names} names, {miss.found!r} comes nearest",
        "class": f"{miss.found}, not {' or '.join(test.wanted)}",
        "spelling": f"{miss.found}, spelled otherwise",
        "unasked": "only a module that holds it was asked",
        "attribute": f"the attribute is {miss.found!r}",
    }[miss.relation]
    return found if test.literal else f"{found}; it looks for {', '.join(map(repr, test.wanted))}"


def _made(site: Site | None) -> Iterator[Location]:
    if site is not None:
        yield Location(site, "the missed one is made here")
