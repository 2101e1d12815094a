"""Parameters that play one part at several places of a model: layers of a stack, directions, branches.

The members of a row differ in one place of their names, whatever they are. Siblings have one role, as far as
the graph tells, and one shape, unless they stand in blocks of a stack. What differs is a number in the name
(`blocks.3.fc1.weight`), the layer or direction of a recurrent module (`weight_hh_l1_reverse`), a direction
word (`rnn_bwd`), or the whole local name of three and more modules that stand side by side (`to_q`, `to_k`,
`to_v`). Stages (`stage1.0.conv`, `stage2.1.conv`) are kin as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Tensor, UsedTensor, Weight
    from initlint.finding import Site


RowKind = Literal["index", "block", "stage", "layer", "direction", "named"]
T = TypeVar("T", bound="Tensor")

_PLACES: dict[RowKind, re.Pattern[str]] = {
    "index": re.compile(r"(?:(?<=\.)|^)\d+(?=\.|$)"),
    "layer": re.compile(r"_l\d+(?:_reverse)?$"),
    "direction": re.compile(r"(?:(?<=[._])|^)(?:forward|backward|fwd|bwd|fw|bw|left|right)(?=[._]|$)"),
}

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """Parameters in the order of registration; `pattern` is what their names share, {} where they differ."""

    kind: RowKind
    pattern: str
    members: tuple[T, ...]

    @property
    def in_blocks(self) -> bool:
        """What is numbered are blocks of several modules, not single layers."""
        return _in_block(self.pattern)


def rows(parameters: Iterable[T], kind: RowKind) -> Iterator[Row[T]]:
    """Groups of parameters whose names differ in one place: an index, a recurrent layer, a direction."""
    groups: dict[str, list[T]] = {}
    for parameter in parameters:
        for found, pattern in _patterns(parameter):
            if found == kind:
                groups.setdefault(pattern, []).append(parameter)
    yield from (Row(kind, pattern, tuple(members)) for pattern, members in groups.items())


def siblings(model: Evidence) -> Iterator[Row[Tensor]]:
    """All groups of two and more; a parameter may belong to several."""
    groups: dict[tuple[RowKind, str, object], list[Tensor]] = {}
    for parameter in model.parameters:
        for kind, pattern in _patterns(parameter):
            groups.setdefault((kind, pattern, _part(parameter, kind)), []).append(parameter)
    for (kind, pattern, _), members in groups.items():
        if len(members) >= (3 if kind == "named" else 2):
            yield Row(kind, pattern, tuple(members))


def beside(model: Evidence, parameter: Tensor) -> tuple[Tensor, ...]:
    """The other parameters of this name, of modules of the same class under the same parent."""
    parent = parameter.owner.rpartition(".")[0]
    return tuple(
        other
        for other in model.parameters
        if other.local_name == parameter.local_name
        and other.owner_class == parameter.owner_class
        and other.owner.rpartition(".")[0] == parent
        and other.name != parameter.name
    )


def duty(tensor: UsedTensor) -> tuple[object, ...]:
    """What a tensor is for wherever it stands: class of its module, last words of its name, role."""
    words = [word for word in tensor.name.split(".") if not word.isdigit()]
    return tensor.owner_class, *words[-2:], tensor.use.role


def unit(parameter: Tensor) -> tuple[str, bool]:
    """The name without the numbers of the units it is in, and whether these are more than layers of a row."""
    container, _, module = parameter.owner.rpartition(".")
    local = recurrent_part(parameter.local_name)[0]
    if numberless(container) == container and local == parameter.local_name:
        return f"{container}.{'' if module.isdigit() else module}.{local}", False
    return f"{numberless(container)}.{module}.{local}", True


def numberless(name: str) -> str:
    """A name without its numbers: one and the same for stages, blocks and layers."""
    return _NUMBER.sub("", name)


def is_numbered(path: str) -> bool:
    """A module is a member of a list."""
    return path.rpartition(".")[2].isdigit()


def recurrent_part(local_name: str) -> tuple[str, str]:
    """What a parameter of a recurrent module is, and of which layer and direction: weight_hh, _l0_reverse."""
    found = _PLACES["layer"].search(local_name)
    return (local_name[: found.start()], found[0]) if found else (local_name, "")


def lines(parameter: Tensor) -> frozenset[Site]:
    """The lines that wrote its values, other than the constructors of torch.nn."""
    return frozenset(write.site for write in parameter.provenance.writes if not write.default)


# ---------------------------------------------------------------- who is whose sibling
def _patterns(parameter: Tensor) -> Iterator[tuple[RowKind, str]]:
    name = parameter.name
    for kind, expression in _PLACES.items():
        for match in expression.finditer(name):
            pattern = f"{name[: match.start()]}{{}}{name[match.end() :]}"
            yield kind, pattern
            if kind == "index" and _in_block(pattern):
                yield "block", pattern
    container, _, module = parameter.owner.rpartition(".")
    if len(_NUMBER.findall(container)) > 1:
        yield "stage", f"{numberless(container)}.{module}.{parameter.local_name}"
    if module and not module.isdigit():
        yield "named", f"{container}.{{}}.{parameter.local_name}".lstrip(".")


def _part(parameter: Tensor, kind: RowKind) -> tuple[object, ...]:
    use = parameter.use
    place = (use.role, use.reaches_output, use.ends_residual) if use is not None else ()
    depth = use.depth if use is not None and kind == "named" else None
    owner = parameter.owner_class if kind == "named" else None
    return len(parameter.shape) if kind in ("block", "stage") else parameter.shape, owner, place, depth


def _in_block(pattern: str) -> bool:
    return pattern.partition("{}")[2].count(".") > 1


def is_written_with_head(model: Evidence, weight: Weight) -> bool:
    """The line that wrote it wrote the output layer behind it too, and nothing in front of it."""
    written = weight.provenance.last_write
    if written is None or written.default:
        return False
    before = [model.by_name[name] for name in weight.use.wiring.sources]
    behind = [w for w in model.weights if w.use.reaches_output and weight.name in w.use.wiring.sources]
    return (
        bool(before and behind)
        and all(w.site == weight.site for w in behind)
        and all(w.site != weight.site for w in before)
    )
