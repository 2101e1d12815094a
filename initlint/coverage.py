"""Families of which an initialiser reached some members and missed others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from initlint.evidence import Evidence, ModuleRecord, Tensor, Write
    from initlint.finding import Site

_RECURRENT = re.compile(r"^((?:weight|bias)_(?:ih|hh|hr))_l\d+(_reverse)?$")
_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")
_DIRECTION = re.compile(r"weight_v|original1")  # under weight_norm: its scale cancels out


class Gap(NamedTuple):
    """Members that keep what their constructor drew while their like were initialised."""

    missed: tuple[Tensor, ...]
    reached: tuple[Tensor, ...]
    write: Write  # the initialisation that the missed ones lack
    kind: str  # "recurrent", "index", "later"


def default(tensor: Tensor) -> bool:
    """The values are those that a constructor of torch.nn gave."""
    last = tensor.provenance.last_write
    return last is not None and last.default and not tensor.provenance.explicit


def _chosen(tensor: Tensor) -> Write | None:
    """The last explicit write, unless it loaded or copied values."""
    explicit = tensor.provenance.explicit
    last = explicit[-1] if explicit else None
    return None if last is None or last.pretrained or last.operation == "load_state_dict" else last


def gaps(model: Evidence) -> Iterator[Gap]:
    """All gaps; a tensor is named once."""
    named: set[str] = set()
    for gap in (*_recurrent(model), *_indexed(model), *_later(model)):
        missed = tuple(tensor for tensor in gap.missed if tensor.name not in named)
        named.update(tensor.name for tensor in missed)
        if missed:
            yield gap._replace(missed=missed)


def _recurrent(model: Evidence) -> Iterator[Gap]:
    """Layers and directions of one recurrent module."""
    groups: dict[tuple[str, str], list[Tensor]] = {}
    for tensor in model.parameters:
        part = _RECURRENT.match(tensor.local_name)
        if part:
            groups.setdefault((tensor.owner, part[1]), []).append(tensor)
    for group in groups.values():
        yield from _gap(group, "recurrent")


def _indexed(model: Evidence) -> Iterator[Gap]:
    """Members of one list. The first or last alone may well be meant to differ."""
    groups: dict[str, list[Tensor]] = {}
    for tensor in model.parameters:
        for index in _INDEX.finditer(tensor.owner):
            pattern = f"{tensor.name[: index.start()]}*{tensor.name[index.end() :]}"
            groups.setdefault(pattern, []).append(tensor)
    for group in groups.values():
        missed = [i for i, tensor in enumerate(group) if default(tensor)]
        inner = set(missed) - {0, len(group) - 1}
        alike = len({(tensor.owner_class, len(tensor.shape)) for tensor in group}) == 1
        if alike and inner and len(group) - len(missed) > 1:
            yield from _gap(group, "index")


def _gap(group: list[Tensor], kind: str) -> Iterator[Gap]:
    missed = tuple(tensor for tensor in group if default(tensor))
    reached = tuple(tensor for tensor in group if _chosen(tensor) is not None)
    if missed and reached and len(missed) + len(reached) == len(group):
        write = _chosen(reached[0])
        assert write is not None
        yield Gap(missed, reached, write, kind)


def _later(model: Evidence) -> Iterator[Gap]:
    """Layers that a constructor makes after it ran the initialiser over all its modules."""
    blankets: dict[Site, list[tuple[Tensor, Write]]] = {}
    for tensor in model.parameters:
        write = _chosen(tensor)
        if write is not None and len(tensor.shape) > 1:
            for site in _initialising(write, model.modules_by_path.get(tensor.owner)):
                blankets.setdefault(site, []).append((tensor, write))
    made = {
        tensor.name: line
        for tensor in model.parameters
        if len(tensor.shape) > 1
        and default(tensor)
        and not _DIRECTION.fullmatch(tensor.local_name)
        and (owner := model.modules_by_path.get(tensor.owner)) is not None
        and (line := owner.construction) is not None
    }
    for name, line in made.items():
        tensor = model.by_name[name]
        for site, written in blankets.items():
            if (site.file, _function(site)) != (line.file, _function(line)) or line.line <= site.line:
                continue
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
    return (line.file, _function(line)) == (site.file, _function(site)) and line.line < site.line


def _initialising(write: Write, owner: ModuleRecord | None) -> Iterator[Site]:
    """Lines that led to a write of a layer that was there before they ran, rather than made by them."""
    made = owner.construction if owner is not None else None
    inner = [write.site]
    for site in write.callers:
        made_inside = made is not None and any(
            (line.file, _function(line)) == (made.file, _function(made)) for line in inner
        )
        if any(_function(line).endswith("__init__") for line in inner) or made_inside:
            return
        yield site
        if _function(site) != _function(inner[-1]):
            inner.append(site)


def _function(site: Site) -> str:
    """The function a line stands in, comprehensions counted to it."""
    return site.qualified.partition(".<locals>.<")[0]


# ---------------------------------------------------------------- whole modules


class Uncalled(NamedTuple):
    """A module whose class defines an initialiser that the build did not run."""

    module: ModuleRecord
    parameters: tuple[Tensor, ...]


def uncalled(model: Evidence) -> Iterator[Uncalled]:
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
        if drawn and all(default(tensor) for tensor in drawn):
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
        if len(inside.get(module.path, ())) > 1 and not module.path.rpartition(".")[2].isdigit():
            groups.setdefault((module.path.rpartition(".")[0], module.qualified_class), []).append(module)
    for group in groups.values():
        done = [m for m in group if all(_chosen(t) is not None for t in inside[m.path])]
        bare = [m for m in group if all(default(t) for t in inside[m.path])]
        for other in bare if done else ():
            write = _chosen(inside[done[0].path][0])
            shapes = [t.shape for t in inside[other.path]]
            like = [t.shape for t in inside[done[0].path]]
            mirrored = [shape[1::-1] + shape[2:] for shape in reversed(like)]
            if write is not None and shapes in (like, mirrored):
                yield Twins(done[0], other, write)
