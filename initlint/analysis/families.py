"""Parameters that play one part at several places of a model: layers of a stack, directions, branches.

Siblings have one role, as far as the graph tells, and one shape, unless they stand in blocks of a stack.
What differs is a number in the name (`blocks.3.fc1.weight`), the layer or direction of a recurrent module
(`weight_hh_l1_reverse`), a direction word (`rnn_bwd`), or the whole local name of three and more modules
that stand side by side (`to_q`, `to_k`, `to_v`). Stages (`stage1.0.conv`, `stage2.1.conv`) are kin as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Tensor
    from initlint.finding import Site


Kind = Literal["index", "block", "stage", "layer", "direction", "named"]

NUMBERINGS: dict[Kind, re.Pattern[str]] = {
    "index": re.compile(r"(?:(?<=\.)|^)\d+(?=\.|$)"),
    "layer": re.compile(r"_l\d+(?:_reverse)?$"),
    "direction": re.compile(r"(?:(?<=[._])|^)(?:forward|backward|fwd|bwd|fw|bw|left|right)(?=[._]|$)"),
}

NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Siblings:
    """Parameters of one part, in the order of registration; `pattern` is what their names share."""

    kind: Kind
    pattern: str
    members: tuple[Tensor, ...]


def siblings(model: Evidence) -> Iterator[Siblings]:
    """All groups of two and more; a parameter may belong to several."""
    groups: dict[tuple[Kind, str, object], list[Tensor]] = {}
    for parameter in model.parameters:
        for kind, pattern in _patterns(parameter):
            groups.setdefault((kind, pattern, _part(parameter, kind)), []).append(parameter)
    for (kind, pattern, _), members in groups.items():
        if len(members) >= (3 if kind == "named" else 2):
            yield Siblings(kind, pattern, tuple(members))


def lines(parameter: Tensor) -> frozenset[Site]:
    """The lines that wrote its values, other than the constructors of torch.nn."""
    return frozenset(write.site for write in parameter.provenance.writes if not write.default)


# ---------------------------------------------------------------- who is whose sibling
def _patterns(parameter: Tensor) -> Iterator[tuple[Kind, str]]:
    name = parameter.name
    for kind, expression in NUMBERINGS.items():
        for match in expression.finditer(name):
            pattern = f"{name[: match.start()]}{{}}{name[match.end() :]}"
            yield kind, pattern
            if kind == "index" and in_block(pattern):
                yield "block", pattern
    container, _, module = parameter.owner.rpartition(".")
    if len(NUMBER.findall(container)) > 1:
        stages = NUMBER.sub("{}", container)
        yield "stage", f"{stages}.{module}.{parameter.local_name}"
    if module and not module.isdigit():
        yield "named", f"{container}.{{}}.{parameter.local_name}".lstrip(".")


def _part(parameter: Tensor, kind: Kind) -> tuple[object, ...]:
    use = parameter.use
    place = (use.role, use.reaches_output, use.ends_residual) if use is not None else ()
    depth = use.depth if use is not None and kind == "named" else None
    owner = parameter.owner_class if kind == "named" else None
    return len(parameter.shape) if kind in ("block", "stage") else parameter.shape, owner, place, depth


def in_block(pattern: str) -> bool:
    """What is numbered is a block of several modules, not a single layer."""
    return pattern.partition("{}")[2].count(".") > 1
