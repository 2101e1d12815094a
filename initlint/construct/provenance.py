"""Who made the values of a model's tensors: reads a recorded build from its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch

from initlint.construct import spelling
from initlint.construct.dataflow import Dataflow, Kind, ancestry, moves, replaces
from initlint.construct.events import Event, Storage
from initlint.construct.recorder import Recorder
from initlint.evidence import Provenance, Seeding, Write
from initlint.finding import Site
from initlint.runtime import strides
from initlint.source import Instruction, Positions, literals

_LOADERS = frozenset(
    {"load_state_dict", "_load_from_state_dict", "load_state_dict_from_url", "load_file", "load"}
    | {"from_pretrained", "_load_pretrained_model", "load_pretrained", "load_checkpoint"}
)
_ORIGINS = 8  # temporaries named behind one write
Names = Mapping[tuple[int, int], str]


class Strays(NamedTuple):
    """Facts about tensors outside the model, by id: where they were made, and which hold drawn values."""

    made: Mapping[int, Site]
    random: frozenset[int]


class Reading:
    """What a recorder saw, as records of evidence."""

    def __init__(self, recorder: Recorder, positions: Positions, poisoned: bool) -> None:
        self.recorder = recorder
        self.positions = positions
        self.poisoned = poisoned  # uninitialised memory was filled with NaN during the whole build
        self.dataflow = Dataflow()
        self.final: dict[int, str] = {}  # names of the final tensors by the id of their storage

    def known(self, tensor: torch.Tensor) -> bool:
        """Something that happened to the tensor's memory was seen."""
        return bool(self.recorder.storage(tensor))

    def strays(self, tensors: Iterable[torch.Tensor]) -> Strays:
        """What is known of tensors that the model does not register."""
        made, drawn = {}, set()
        for tensor in tensors:
            storage = self.recorder.storage(tensor)
            if not storage:
                continue
            if storage[0].lines:
                made[id(tensor)] = self.positions.site(storage[0].lines[0])
            if any(self.dataflow.kind(storage, index) == "random" for index in range(len(storage))):
                drawn.add(id(tensor))
        return Strays(made, frozenset(drawn))

    def provenances(
        self, tensors: Mapping[str, torch.Tensor], constructions: Mapping[str, Site | None]
    ) -> dict[str, Provenance]:
        """How every named tensor got its values; `constructions` are the lines that made the modules."""
        names: dict[tuple[int, int], str] = {}
        self.final = {}
        for name, tensor in tensors.items():
            storage = self.recorder.storage(tensor)
            if storage is None:
                continue
            names.setdefault((id(storage), len(storage)), name)
            self.final.setdefault(id(storage), name)
            # Copies of a tensor that is not in the model any more are copies of each other.
            for source, version in ancestry(storage):
                names.setdefault((id(source), version), name)
        return {
            name: self._provenance(name, tensor, constructions.get(name.rpartition(".")[0]), names)
            for name, tensor in tensors.items()
        }

    def _provenance(
        self, name: str, tensor: torch.Tensor, construction: Site | None, names: Names
    ) -> Provenance:
        storage = self.recorder.storage(tensor)
        line = self.recorder.attributes.frozen(tensor)
        frozen = self.site(line) if line is not None else None
        if storage is None:
            return Provenance(construction=construction, frozen=frozen)
        if not storage:
            return Provenance("external", construction=construction, frozen=frozen)
        first = storage[0]
        allocation = self.site(first.lines[0]) if first.lines else None
        seen, made = first.operator.effect in ("new", "compute"), spelling.operation(first)
        sources = list(ancestry(storage))
        twin = next((n for s, v in sources if (n := names.get((id(s), v))) is not None and n != name), None)
        writes = tuple(w for source, version in reversed(sources) for w in self._writes(source, version))
        writes += self._writes(storage, len(storage), tensor)
        unwritten = self._unwritten(storage, tensor)
        if not writes and not unwritten and self.poisoned and not tensor.is_meta and tensor.numel():
            # The poison is gone though no operation was seen: written through NumPy or a pointer.
            site = allocation or construction or Site("<unknown>", 0)
            writes = (_unseen(first.order, site, tensor.numel()),)
        return Provenance(
            allocator=made.spelled if seen else "external",
            emptied=seen and made.function == "to_empty",
            allocation=allocation,
            construction=construction or allocation,
            writes=writes,
            unwritten=unwritten,
            copied_from=twin,
            outdated=next((old for s, v in sources if (old := self._outdated(s, v))), None),
            origins=self._origins(storage),
            flush=self._flush(storage),
            seeding=self._seeding(writes),
            frozen=frozen,
        )

    def _seeding(self, writes: tuple[Write, ...]) -> Seeding | None:
        drawn = max((write.order for write in writes if write.kind == "random"), default=0)
        for order, lines in reversed(self.recorder.seedings.calls):
            sites = [self.site(line) for line in lines]
            if order < drawn and sites:
                return Seeding(order, next((site for site in sites if site.package is None), sites[0]))
        return None

    def _unwritten(self, storage: Storage, tensor: torch.Tensor) -> int:
        if tensor.is_meta or not tensor.numel() or not self.dataflow.tainted(storage):
            return 0
        if not self.poisoned:
            return 0 if any(not event.operator.empty for event in storage) else tensor.numel()
        return poison(tensor)

    def _outdated(self, source: Storage, version: int) -> str | None:
        """The final tensor in this storage, if it was written after a version of it was copied."""
        return self.final.get(id(source)) if any(not moves(event) for event in source[version:]) else None

    def _flush(self, storage: Storage) -> Write | None:
        """The conversion whose zeros the storage still holds."""
        for index in range(len(storage) - 1, -1, -1):
            event = storage[index]
            if event.arguments is not None and "flushed" in event.arguments:
                return self.write(storage, index)
            if replaces(event):
                break
        return None

    def _origins(self, storage: Storage) -> tuple[Write, ...]:
        """Operations on temporaries that the last write took its values from, nearest first."""
        found: list[Write] = []
        seen = {id(storage)}
        queue = list(storage[-1].inputs)
        while queue and len(found) < _ORIGINS:
            source, version = queue.pop(0)
            if id(source) in seen or version == 0:
                continue
            seen.add(id(source))
            event = source[version - 1]
            if not event.default and event.lines:
                found.append(self.write(source, version - 1))
            queue.extend(event.inputs)
        return tuple(found)

    def _writes(
        self, storage: Storage, version: int, tensor: torch.Tensor | None = None
    ) -> tuple[Write, ...]:
        """Writes that covered any of the tensor; what one call of a torch.nn.init function did is one."""
        extent = None
        if tensor is not None and tensor.numel() < storage.numel:
            extent = strides.extent(int(tensor.storage_offset()), tensor.size(), tensor.stride())
        groups: list[list[int]] = []
        for index, event in enumerate(storage[:version]):
            if event.operator.empty or moves(event) or (extent is not None and not _overlaps(event, extent)):
                continue
            if groups and _same_call(storage[groups[-1][0]], event):
                groups[-1].append(index)
            else:
                groups.append([index])
        return tuple(self._call(storage, group) for group in groups)

    def _call(self, storage: Storage, group: list[int]) -> Write:
        """The record of the events of one call."""
        if len(group) == 1:
            return self.write(storage, group[0])
        kinds = [self.dataflow.kind(storage, index) for index in group]
        kind: Kind = "random" if "random" in kinds else kinds[-1]
        elements = max(storage[index].numel for index in group)
        replaces = any(storage[index].operator.replaces for index in group)
        return replace(
            self.write(storage, group[-1]), kind=kind, elements=elements, replaces=replaces, own=not replaces
        )

    def write(self, storage: Storage, index: int) -> Write:
        """The record of one event."""
        event = storage[index]
        sites = tuple(self.positions.site(line) for line in event.lines)
        operation, arguments = spelling.operation(event), spelling.arguments(event)
        return Write(
            order=event.order,
            operation=operation.spelled,
            function=operation.function,
            via=operation.via,
            kind=self.dataflow.kind(storage, index),
            site=sites[0] if sites else Site("<unknown>", 0),
            callers=sites[1:],
            arguments=arguments,
            elements=event.numel,
            pretrained=bool(event.inputs) and _loaded(event),
            replaces=event.operator.replaces,
            own=not event.operator.replaces or _own(storage, event),
            literal=_literal(operation.function, arguments, sites),
        )

    def site(self, instruction: Instruction) -> Site:
        """The line of an instruction."""
        return self.positions.site(instruction)


def _unseen(order: int, site: Site, elements: int) -> Write:
    return Write(order, "external", "external", "unseen", "unknown", site, elements=elements)


#: Operations that are handed the scale of a draw.
_SCALED = frozenset({"normal_", "uniform_", "trunc_normal_", "mul", "div"})


def _literal(function: str, arguments: Mapping[str, object], lines: Iterable[Site]) -> frozenset[float]:
    """The scales that a draw was asked for which stand as numbers in a file on the way to it."""
    if function not in _SCALED or not arguments:
        return frozenset()
    numbers = {float(v) for v in arguments.values() if isinstance(v, int | float)}
    if function == "div":
        numbers = {1 / number for number in numbers if number}
    return frozenset().union(*(numbers & literals(file) for file in {line.file for line in lines}))


def _own(storage: Storage, event: Event) -> bool:
    """What was copied in had been computed from the tensor itself."""
    queue = [source for source, _ in event.inputs if source is not storage]
    for source in queue[:_ORIGINS]:
        inputs = [before for past in source for before, _ in past.inputs]
        if any(before is storage for before in inputs):
            return True
        queue.extend(inputs)
    return False


def _loaded(event: Event) -> bool:
    """A loading function copied values that nothing in this build computed."""
    if event.operator.name not in ("copy_", "_to_copy", "clone"):
        return False
    codes = [event.inner[0], *(code for code, _ in event.lines)]
    if event.called is not None:
        codes.append(event.called)
    if not any(code.co_name in _LOADERS for code in codes):
        return False
    source, version = event.inputs[-1]
    while version:
        last = source[version - 1]
        if last.operator.name not in ("_to_copy", "clone") or not last.inputs:
            return last.operator.name == "lift_fresh"
        source, version = last.inputs[-1]
    return True


def _same_call(first: Event, event: Event) -> bool:
    """Both events ran inside one call of a torch.nn.init function: the first one of it does not return."""
    return (
        first.called is not None
        and first.called is event.called
        and first.default == event.default
        and first.lines == event.lines
        and first.inner != event.inner
    )


def _overlaps(event: Event, extent: tuple[int, int]) -> bool:
    if event.part is None:
        return True
    low, high = strides.extent(*event.part)
    return low < extent[1] and extent[0] < high


def poison(tensor: torch.Tensor) -> int:
    """Elements that hold what torch fills uninitialised memory with: NaN, or the largest integer."""
    values = tensor.detach()
    if values.is_quantized or values.layout != torch.strided:
        return 0
    try:
        if values.is_floating_point() or values.is_complex():
            return int(torch.isnan(values.float() if values.dtype.itemsize == 1 else values).sum())
        if values.dtype == torch.bool:
            return int(values.sum())
        return int((values == torch.iinfo(values.dtype).max).sum())
    except (NotImplementedError, RuntimeError, TypeError):  # no comparison for this dtype
        return 0
