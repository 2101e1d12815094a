"""IL302 discarded-write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.locations import callers, phrase
from initlint.analysis.rewrites import lost_together

if TYPE_CHECKING:
    from initlint import Evidence, Finding, LostWrite, MemberTest


class DiscardedWrite(Rule):
    """An initialisation that changed nothing in the finished model.

    The write went to a temporary (a clone, rows picked by a list, a weight that a parametrization
    recomputes at every use, a variable, a dict that is never loaded) or to a layer that was replaced
    afterwards. The parameter keeps what it held
    before, without a word.

    Write to the parameter itself: before weight_norm or spectral_norm is applied, through a slice instead
    of a list of rows, and after the last replacement of the layer.
    """

    code = "IL302"
    name = "discarded-write"
    severity = "error"
    needs = frozenset({"provenance"})

    _remedies = {
        "parametrized": "initialise the layer before the parametrization is applied",
        "temporary": "write to the parameter itself, under torch.no_grad()",
        "replaced": "initialise after the last assignment to this name",
        "detached": "write after the last assignment to .data",
        "unused": "use the in-place operation, or copy the result into the parameter",
        "entry": "load the dict with load_state_dict, or write to the parameter itself",
    }

    def check(self, model: Evidence) -> Iterator[Finding]:
        for lost, *before in lost_together(model.lost_writes):
            yield self.finding(
                lost,
                f"what {phrase(lost.write)} wrote is in no parameter of the model: {_how(lost)}",
                measured={"surviving writes": 0},
                expected={"surviving writes": 1},
                help=self._remedies[lost.reason],
                locations=(
                    *callers(lost.write),
                    *(Location(b.write.site, "lost before it") for b in before),
                ),
            )
        for test in model.member_tests:
            if test.kind == "object":
                yield self.finding(
                    test.near[0],
                    f"{_handed(test)}: nothing was written",
                    measured={"surviving writes": 0},
                    expected={"surviving writes": 1},
                    help="hand over the module that holds the parameter",
                    site=test.caller,
                    locations=[Location(test.site, f"never true for a parameter: {test.text}")],
                )


_ENDS = {
    "dropped": "the result was put nowhere in it",
    "rebound": "the loop's variable was given another tensor, the parameter was not",
    "unread": "it went into a variable that nothing reads afterwards",
}


def _how(lost: LostWrite) -> str:
    """What became of the values."""
    match lost.reason:
        case "parametrized":
            return f"{lost.source} is recomputed from its parametrization"
        case "temporary" if lost.source:
            return f"{lost.source} made a temporary"
        case "temporary":
            return "the tensor that it filled went nowhere"
        case "detached":
            return "the parameter was given other memory afterwards"
        case "replaced":
            return "another parameter took its place and was not initialised"
        case "entry":
            return "it replaced an entry of a dict of the model's tensors, which was not loaded"
    return _ENDS[lost.end or "dropped"]


def _handed(test: MemberTest) -> str:
    """Which function was handed a parameter in place of a module."""
    wanted = f"looks for {test.wanted[0]!r} of a module" if test.wanted else "tests for a module"
    return f"{test.site.function} was handed a {test.missed[0].found} where it {wanted}"
