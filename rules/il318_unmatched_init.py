"""IL318 unmatched-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule

if TYPE_CHECKING:
    from initlint import Evidence, Finding, MemberTest, Miss


class UnmatchedInit(Rule):
    """A test in an initialiser that is never true for the members it was meant for.

    The names, classes or attributes that it looks for are not those of the model: a full name compared with
    a suffix, another class of layer, a misspelled flag. The branch behind it never runs, and those members
    silently keep what they had.

    Compare with what the model has: the end of the name, a base class, the attribute as it is spelled.
    """

    code = "IL318"
    name = "unmatched-init"
    severity = "warning"
    level = "write"
    needs = frozenset({"provenance"})

    #: Names for one role: difflib gives cproj and outproj 0.67, query and key 0.5.
    similar_name: float = 0.6
    #: One attribute, misspelled: scaleinit and scaleinti have 0.89, inputscale and outputscale 0.76.
    similar_attribute: float = 0.85

    def check(self, model: Evidence) -> Iterator[Finding]:
        for test in model.member_tests:
            missed = [miss for miss in test.missed if self._is_near(miss)]
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

    def _is_near(self, miss: Miss) -> bool:
        """Its spelling is near enough to what the test looks for."""
        least = {"part": self.similar_name, "attribute": self.similar_attribute}
        return miss.similarity >= least.get(miss.relation, 0.0)


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
