"""Families of which an initialiser reached some members and missed others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from initlint.analysis.families import is_numbered, recurrent_part, rows
from initlint.analysis.rewrites import written_constant

if TYPE_CHECKING:
    from initlint.evidence import Evidence, ModuleRecord, Tensor, Write
    from initlint.finding import Site

_RECURRENT_CLASSES = frozenset({"LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"})
_PLACEHOLDERS = frozenset(f"{name}{like}" for name in ("zeros", "ones", "full") for like in ("", "_like"))
_LINEAR_STEPS = frozenset({"mul", "div", "add", "sub", "neg"})
_DIRECTION = re.compile(r"weight_v|original1")  # under weight_norm: its scale cancels out


class Gap(NamedTuple):
    """Members that keep what their constructor drew while their like were initialised."""

    missed: tuple[Tensor, ...]
    reached: tuple[Tensor, ...]
    write: Write  # the initialisation that the missed ones lack
    kind: str  # "recurrent", "constant", "index", "later", "closed"
    others: tuple[Write, ...] = ()  # what else they lack


def is_default(tensor: Tensor) -> bool:
    """The values are those that a constructor of torch.nn gave."""
    last = tensor.provenance.last_write
    return last is not None and last.default and not tensor.provenance.explicit


def _explicit_write(tensor: Tensor) -> Write | None:
    """The last explicit write, unless it loaded or copied values."""
    explicit = tensor.provenance.explicit
    last = explicit[-1] if explicit else None
    return None if last is None or last.restores else last


def gaps(model: Evidence) -> Iterator[Gap]:
    """All gaps; a tensor is named once, and what the same members lack is one gap."""
    named: set[str] = set()
    found: dict[object, list[Gap]] = {}
    for gap in (*_recurrent(model), *_indexed(model), *_closed(model), *_later(model)):
        missed = tuple(tensor for tensor in gap.missed if tensor.name not in named)
        named.update(tensor.name for tensor in missed)
        if missed:
            key = gap.kind, *(frozenset(map(_member, part)) for part in (missed, gap.reached))
            found.setdefault(key, []).append(gap._replace(missed=missed))
    for first, *others in found.values():
        yield first._replace(
            missed=(*first.missed, *(tensor for gap in others for tensor in gap.missed)),
            reached=(*first.reached, *(tensor for gap in others for tensor in gap.reached)),
            others=tuple(gap.write for gap in others),
        )


def _member(tensor: Tensor) -> tuple[str, str]:
    """The module that a tensor is of, and which layer and direction of it."""
    return tensor.owner, recurrent_part(tensor.local_name)[1]


def _recurrent(model: Evidence) -> Iterator[Gap]:
    """Layers and directions of one recurrent module."""
    for row in rows(model.parameters, "layer"):
        for gap in _gap(row.members, "recurrent"):
            one_value = all(_one_value(tensor) for tensor in gap.reached)
            yield gap._replace(kind="constant") if one_value else gap


def _one_value(tensor: Tensor) -> bool:
    """A matrix whose values are all the same: no scheme that its like are meant to share."""
    write = _explicit_write(tensor)
    return len(tensor.shape) > 1 and write is not None and written_constant(write) is not None


def _indexed(model: Evidence) -> Iterator[Gap]:
    """Members of one list. The first or last alone may be meant to differ, unless it is recurrent."""
    for row in rows(model.parameters, "index"):
        group = row.members
        missed = [i for i, tensor in enumerate(group) if is_default(tensor)]
        inner = set(missed) - {0, len(group) - 1}
        alike = len({(tensor.owner_class, len(tensor.shape)) for tensor in group}) == 1
        recurrent = group[0].owner_class in _RECURRENT_CLASSES
        if alike and missed and (recurrent or (inner and len(group) - len(missed) > 1)):
            yield from _gap(group, "index")


def _closed(model: Evidence) -> Iterator[Gap]:
    """Of three and more blocks of one list, a matrix in a single one was set to a constant afterwards.

    The last block may well be meant to differ, and so may what a block's own constructor closes.
    """
    for row in rows(model.parameters, "block"):
        group = [tensor for tensor in row.members if len(tensor.shape) > 1]
        single = [tensor for tensor in group[:-1] if not is_default(tensor)]
        if len(group) < 3 or len(single) != 1 or len({(t.owner_class, t.shape) for t in group}) > 1:
            continue
        for gap in _gap(group, "closed"):
            own = gap.write.kind == "constant" and gap.write.site.package is None
            if own and all(gap.write.order > _last_order(tensor) for tensor in gap.missed):
                yield gap


def _last_order(tensor: Tensor) -> int:
    """The last of its writes, among all of the build."""
    return max((write.order for write in tensor.provenance.writes), default=-1)


def _gap(group: Sequence[Tensor], kind: str) -> Iterator[Gap]:
    missed = tuple(tensor for tensor in group if is_default(tensor))
    reached = tuple(tensor for tensor in group if _explicit_write(tensor) is not None)
    if missed and reached and len(missed) + len(reached) == len(group):
        write = _explicit_write(reached[0])
        assert write is not None
        yield Gap(missed, reached, write, kind)


def _later(model: Evidence) -> Iterator[Gap]:
    """Layers that are added to a module after the initialiser ran over it."""
    blankets: dict[Site, list[tuple[Tensor, Write]]] = {}
    for tensor in model.parameters:
        write = _explicit_write(tensor)
        if write is not None and len(tensor.shape) > 1:
            for site in _initialising(write, model.modules_by_path.get(tensor.owner)):
                blankets.setdefault(site, []).append((tensor, write))
    made = {
        tensor.name: line
        for tensor in model.parameters
        if len(tensor.shape) > 1
        and is_default(tensor)
        and not _DIRECTION.fullmatch(tensor.local_name)
        and (owner := model.modules_by_path.get(tensor.owner)) is not None
        and (line := owner.construction) is not None
    }
    for name, line in made.items():
        tensor = model.by_name[name]
        for site, written in blankets.items():
            if site.scope != line.scope or line.line <= site.line:
                continue
            making, run = model.statements.get(line), model.statements.get(site)
            if making is None or run is None or making.extends not in run.works_on:
                continue  # it was run on something else
            alike = [other for other in made if model.by_name[other].owner_class == tensor.owner_class]
            if any(_before(made[other], site) for other in alike):
                continue  # it chose among those that were there
            first = min(write.order for _, write in written)
            if any(other.provenance.writes[0].order > first for other, _ in written):
                continue  # it was run on each layer as it was made
            like = [(other, write) for other, write in written if other.owner_class == tensor.owner_class]
            order = tensor.provenance.writes[-1].order
            if len({other.owner for other, _ in like}) > 1 and all(write.order < order for _, write in like):
                yield Gap((tensor,), tuple(other for other, _ in like), like[0][1], "later")
                break


def _before(line: Site, site: Site) -> bool:
    return line.scope == site.scope and line.line < site.line


def _initialising(write: Write, owner: ModuleRecord | None) -> Iterator[Site]:
    """Lines that led to a write of a layer that was there before they ran, rather than made by them."""
    made = owner.construction if owner is not None else None
    inner: list[Site] = []
    for site in (write.site, *write.callers):
        made_inside = made is not None and any(line.scope == made.scope for line in inner)
        if any(line.scope[1].endswith("__init__") for line in inner) or made_inside:
            return
        yield site
        if not inner or site.scope[1] != inner[-1].scope[1]:
            inner.append(site)


# ---------------------------------------------------------------- placeholders


class Placeholder(NamedTuple):
    """A tensor that still holds the constant it was allocated with, while its twin was given values."""

    left: Tensor
    twin: Tensor
    write: Write  # the one that the twin got


def placeholders(model: Evidence) -> Iterator[Placeholder]:
    """Twins are the same tensor of two modules of one class and parent, or two of one module used alike."""
    apart: dict[tuple[str, str, str], list[Tensor]] = {}
    beside: dict[tuple[object, ...], list[Tensor]] = {}
    for tensor in model.tensors:
        owner = model.modules_by_path.get(tensor.owner)
        if owner is None or owner.package is not None or tensor.updated:
            continue
        parent = tensor.owner.rpartition(".")[0]
        apart.setdefault((parent, owner.qualified_class, tensor.local_name), []).append(tensor)
        use = tensor.use
        if use is not None and any(step.operation not in _LINEAR_STEPS for step in use.wiring.steps):
            key = (tensor.owner, tensor.shape, use.role, use.operation, use.wiring.steps)
            beside.setdefault(key, []).append(tensor)
    named: set[str] = set()
    for group, together in [(g, False) for g in apart.values()] + [(g, True) for g in beside.values()]:
        given = [tensor for tensor in group if _later_write(tensor) is not None]
        numbered = not together and is_numbered(group[-1].owner)
        if len(given) == 1 and given[0] is group[-1] and numbered:
            continue  # the last of a row may well be meant to differ
        for left in group:
            for twin in given if _is_placeholder(left) and left.name not in named else ():
                write = _later_write(twin)
                assert write is not None
                first, own = twin.provenance.writes[0], left.provenance.writes[0]
                alike = _named_alike(left, twin) if together else first.site == own.site
                if alike and first.function == own.function and write.order > own.order:
                    named.add(left.name)
                    yield Placeholder(left, twin, write)
                    break


def _is_placeholder(tensor: Tensor) -> bool:
    writes = tensor.provenance.writes
    return len(writes) == 1 and _holds_place(writes[0])


def _holds_place(write: Write) -> bool:
    """It allocated the tensor with a constant."""
    return write.via == "allocation" and write.function in _PLACEHOLDERS


def _later_write(tensor: Tensor) -> Write | None:
    """What a line of the user put over the constant it was allocated with, unless that is a constant too."""
    writes, chosen = tensor.provenance.writes, _explicit_write(tensor)
    placed = len(writes) > 1 and _holds_place(writes[0])
    if not placed or chosen is None or chosen.kind == "constant" or chosen.site.package is not None:
        return None
    return chosen


def _named_alike(one: Tensor, other: Tensor) -> bool:
    """Their names share a word, and a single word of either makes the difference: A_log, A_b_log."""
    words, others = (set(t.local_name.lower().split("_")) for t in (one, other))
    return bool(words & others) and len(words - others) < 2 and len(others - words) < 2


# ---------------------------------------------------------------- whole modules


class Uncalled(NamedTuple):
    """A module whose class defines an initialiser that the build did not run."""

    module: ModuleRecord
    parameters: tuple[Tensor, ...]


def uncalled_initialisers(model: Evidence) -> Iterator[Uncalled]:
    """Modules that hold defaults only, although their class knows how to initialise them."""
    for module in model.modules:
        if not module.has_reset or module.reset_called:
            continue
        inside = tuple(
            tensor
            for tensor in model.parameters
            if not module.path or tensor.owner == module.path or tensor.owner.startswith(f"{module.path}.")
        )
        drawn = tuple(tensor for tensor in inside if len(tensor.shape) > 1)
        if drawn and all(is_default(tensor) for tensor in drawn):
            yield Uncalled(module, drawn)


class Twins(NamedTuple):
    """Two modules of one class and parent, of which a line initialised one as a whole and none the other."""

    initialised: ModuleRecord
    other: ModuleRecord
    write: Write


def twins(model: Evidence) -> Iterator[Twins]:
    """Pairs such as an encoder and a decoder."""
    inside: dict[str, list[Tensor]] = {}
    for tensor in model.parameters:
        path = tensor.owner
        while len(tensor.shape) > 1 and path:
            inside.setdefault(path, []).append(tensor)
            path = path.rpartition(".")[0]
    groups: dict[tuple[str, str], list[ModuleRecord]] = {}
    for module in model.modules:
        if len(inside.get(module.path, ())) > 1 and not is_numbered(module.path):
            groups.setdefault((module.path.rpartition(".")[0], module.qualified_class), []).append(module)
    for group in groups.values():
        done = [m for m in group if all(_explicit_write(t) is not None for t in inside[m.path])]
        bare = [m for m in group if all(is_default(t) for t in inside[m.path])]
        for other in bare if done else ():
            write = _explicit_write(inside[done[0].path][0])
            shapes = [t.shape for t in inside[other.path]]
            like = [t.shape for t in inside[done[0].path]]
            mirrored = [shape[1::-1] + shape[2:] for shape in reversed(like)]
            if write is not None and shapes in (like, mirrored):
                yield Twins(done[0], other, write)


class UnmatchedStart(NamedTuple):
    """A layer that was made to give one chosen output, and the same layer of a like module, which was not."""

    layer: Tensor
    shift: Tensor  # its bias, which holds the output
    other: Tensor
    like: ModuleRecord  # the module that holds the other
    write: Write


def unmatched_starts(model: Evidence) -> Iterator[UnmatchedStart]:
    """Last layers such as those of spatial transformers: zero weights, and a bias that is the identity."""
    for shift in model.parameters:
        layer = model.by_name.get(f"{shift.owner}.weight")
        if layer is None or layer is shift or shift.local_name != "bias":
            continue
        write, zeroed = _explicit_write(shift), _explicit_write(layer)
        if (
            write is None
            or zeroed is None
            or write.kind not in ("copy", "transform")
            or written_constant(zeroed) != 0
        ):
            continue
        for holder in model.modules:
            inside = holder.path and holder.package is None and shift.owner.startswith(f"{holder.path}.")
            parent = holder.path.rpartition(".")[0]
            for like in model.modules if inside else ():
                other = model.by_name.get(f"{like.path}{layer.name.removeprefix(holder.path)}")
                if (
                    like.path != holder.path
                    and like.qualified_class == holder.qualified_class
                    and like.path.rpartition(".")[0] == parent
                    and other is not None
                    and is_default(other)
                    and all(is_default(t) for t in model.parameters if t.owner == other.owner)
                ):
                    yield UnmatchedStart(layer, shift, other, like, write)
