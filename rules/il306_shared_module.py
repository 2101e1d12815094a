"""IL306 shared-module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.shared_modules import mixed_statistics, shared

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class SharedModule(Rule):
    """One module that stands at several positions of a list, or is a default argument's.

    `[block] * n` holds one block n times, and the default of an argument is made once for all calls. The
    positions then have the same weights at every step: n layers with the parameters of one. Attributes that
    hold one module, each under a name of its own, are a note. A BatchNorm that several layers share, which
    share no weights, estimates a mixture of their signals, and normalises none of them when it evaluates.

    Make each in a comprehension: `[Block() for _ in range(n)]`. Where one set of weights is meant, call one
    module in a loop, so that the code says so.

    References:
        Lan et al., ALBERT, 2020, section 3.1: sharing across layers, on purpose.
    """

    code = "IL306"
    name = "shared-module"
    severity = "warning"
    needs = frozenset({"provenance"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        reported: set[str] = set()
        for item in shared(model):
            if not item.member and item.default_of is None:
                continue
            made, put = item.record.construction, item.record.registration
            site = made if item.default_of is not None else put or made
            source = "a default argument" if item.default_of is not None else "one object"
            reported.update(item.paths)
            yield self.finding(
                item.paths[0],
                f"the {len(item.paths)} positions {item.paths[0]} … {item.paths[-1]} hold the same "
                f"{item.record.class_name}, {source}: {item.elements} trainable values in all",
                measured={"modules": 1},
                expected={"modules": len(item.paths)},
                severity="note"
                if item.default_of is None and (item.named or _elementwise(model, item.paths[0]))
                else None,
                help="make a module for each position: [Block() for _ in range(n)]",
                site=site,
                related=item.paths[1:],
                locations=[Location(made, "made here")] if made is not None and made != site else (),
            )
        for record in mixed_statistics(model):
            if reported.isdisjoint(record.paths):
                first, *others = record.paths
                yield self.finding(
                    record,
                    f"{first} and {' and '.join(others)} are one {record.class_name} behind different "
                    "layers: its running statistics mix their signals",
                    measured={"modules": 1},
                    expected={"modules": len(record.paths)},
                    help="make a normalisation for each of the layers",
                    related=others,
                    locations=[Location(record.registration, "put in its place here")]
                    if record.registration is not None
                    else (),
                )


def _elementwise(model: Evidence, path: str) -> bool:
    """The module has vectors only, and is no normalisation: an activation with parameters of its own."""
    inside = [t for t in model.parameters if f"{t.owner}.".startswith(f"{path}.")]
    vectors = all(t.elements == max(t.shape, default=1) for t in inside)
    return vectors and "norm" not in model.modules_by_path[path].class_name.lower()
