"""IL312 broken-tying."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from initlint import Location, Rule

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Tensor


HOW = {
    "constructor": "were one Parameter and are two now",
    "_tied_weights_keys": "are declared in _tied_weights_keys to be one Parameter and are two",
    "tie_weights": "would be one Parameter if the method that ties them were called",
    "memory": "are two Parameters in one memory: each has its own gradient and its own optimizer step",
    "values": "hold the same values, copied from one to the other, in two Parameters",
}


class BrokenTying(Rule):
    """Two parameters that were meant to be one.

    Tied weights are one Parameter under two names. `to_empty`, deepcopy, a new Parameter and `.data = `
    leave two: they drift apart from the first step, and the model has more parameters than it was given.

    Tie last, after the model was materialised and initialised: `head.weight = embed.weight`.

    References:
        Press and Wolf, Using the Output Embedding to Improve Language Models, 2017, section 3.
    """

    code = "IL312"
    name = "broken-tying"
    severity = "error"
    needs = frozenset({"provenance"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for tie in model.ties:
            if not tie.broken or (tie.declared_by == "memory" and _alone(model, tie.names)):
                continue
            first, *others = tie.names
            yield self.finding(
                first,
                f"{first} and {' and '.join(others)} {HOW[tie.declared_by]}",
                measured={"parameters": len(tie.names)},
                expected={"parameters": 1},
                help="assign one Parameter to both, after everything that makes new ones",
                site=tie.site,
                related=others,
                locations=[Location(tie.tied, "tied here")] if tie.tied is not None else (),
            )


def _alone(model: Evidence, names: Sequence[str]) -> bool:
    """A single one of them takes part in the forward: it is stepped as if the others were not there.

    A graph knows their memory by one name; the gradients tell who takes part.
    """
    return sum(name in model.by_name and _takes_part(model.by_name[name]) for name in names) == 1


def _takes_part(parameter: Tensor) -> bool:
    gradient = parameter.gradient
    return parameter.use is not None or (gradient is not None and gradient.scale is not None)
