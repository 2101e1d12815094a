"""Modules that stand at several positions of one kind: members of a list, or one attribute of siblings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from initlint.evidence import Evidence, ModuleRecord, Tensor
    from initlint.finding import Site

_CONTAINERS = frozenset({"ModuleList", "ModuleDict", "Sequential"})


@dataclass(frozen=True, slots=True)
class Shared:
    """One module, or shallow copies of one, at several positions.

    `member`: of one list, dict or sequence, or of one module; `named`: attributes with names of their own.
    """

    paths: tuple[str, ...]
    member: bool
    named: bool
    elements: int  # trainable values
    record: ModuleRecord

    @property
    def default_of(self) -> Site | None:
        """It is the default of an argument of the function defined there."""
        return self.record.default_of


def shared(model: Evidence) -> Iterator[Shared]:
    """The outermost modules with trainable parameters that several positions of one kind hold."""
    found: dict[tuple[str, ...], list[Tensor]] = {}
    for tensor in model.parameters:
        if not tensor.aliases or not tensor.requires_grad or _tied(model, tensor):
            continue
        for group in _alike(model, (tensor.name, *tensor.aliases)):
            found.setdefault(group, []).append(tensor)
    for group, tensors in found.items():
        for paths in _outermost(model, group, tensors):
            record = model.modules_by_path.get(paths[0])
            holder = model.modules_by_path.get(paths[0].rpartition(".")[0])
            if record is not None and holder is not None:
                member = group == paths and _member(model, group)
                yield Shared(paths, member, not _contains(holder), _elements(tensors), record)


def _elements(tensors: list[Tensor]) -> int:
    return sum(tensor.elements for tensor in tensors)


def _tied(model: Evidence, tensor: Tensor) -> bool:
    """Some line assigned the Parameter itself to a second place."""
    names = {tensor.name, *tensor.aliases}
    return any(tie.site is not None and names & set(tie.names) for tie in model.ties)


def _alike(model: Evidence, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Positions, two or more, that differ in one step of the path: a key of a container, or an index."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        steps = name.split(".")[:-1]
        for i in range(len(steps)):
            prefix = ".".join(steps[:i])
            holder = model.modules_by_path.get(prefix)
            key = "*" if holder is not None and _contains(holder) else steps[i].rstrip("0123456789")
            if key != steps[i]:
                group = (prefix, key, *steps[i + 1 :])
                groups.setdefault(group, []).append(".".join(steps[: i + 1]))
    best = max(groups.values(), key=len, default=[])
    if len(best) > 1:
        yield tuple(best)


def _contains(holder: ModuleRecord) -> bool:
    return holder.class_name in _CONTAINERS or holder.qualified_class.startswith("torch.nn.modules.container")


def _member(model: Evidence, group: tuple[str, ...]) -> bool:
    return len({path.rpartition(".")[0] for path in group}) == 1


def _outermost(model: Evidence, group: tuple[str, ...], tensors: list[Tensor]) -> Iterator[tuple[str, ...]]:
    """The positions themselves if all that they hold is shared, else each part of them that is."""
    names = {name for tensor in tensors for name in (tensor.name, *tensor.aliases)}
    prefix = group[0] + "."
    whole = not any(
        name.startswith(prefix) and name not in names and tensor.requires_grad
        for tensor in model.parameters
        for name in (tensor.name, *tensor.aliases)
    )
    parts = {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}
    if whole:
        yield group
        return
    for part in sorted(part for part in parts if prefix + part not in names):
        yield from _outermost(model, tuple(f"{path}.{part}" for path in group), tensors)


# ---------------------------------------------------------------- running statistics


def mixed_statistics(model: Evidence) -> Iterator[ModuleRecord]:
    """Modules with running statistics that stand behind several layers, none of which they share.

    Layers that are shared as well see one kind of signal, or are meant to be one.
    """
    holders: dict[str, list[Tensor]] = {}
    for tensor in model.tensors:
        holders.setdefault(tensor.owner, []).append(tensor)
    for record in model.modules:
        parents = {path.rpartition(".")[0] for path in record.paths}
        statistics = [t for t in holders.get(record.path, ()) if t.local_name.startswith("running_")]
        if not statistics or len(parents) < 2 or record.calls in (0, 1):
            continue
        matrices = [t for t in model.parameters if t.aliases and len(t.shape) > 1]
        if len({id(model.modules_by_path.get(parent)) for parent in parents}) == len(parents) and not any(
            all(any(name.startswith(f"{parent}.") for name in (t.name, *t.aliases)) for parent in parents)
            for t in matrices
        ):
            yield record
