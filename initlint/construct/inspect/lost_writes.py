"""Explicit initialisations of a recorded build that changed nothing in the final model.

Needs the live model: what its tensors, and those it holds without registering them, were computed from, and
which modules still have the places that they were registered at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

import torch
from torch import nn

from initlint.construct import spelling
from initlint.construct.dataflow import reached, replaces
from initlint.construct.events import Event, Module, Storage
from initlint.construct.provenance import Reading
from initlint.evidence import LostWrite, Tie
from initlint.source import LISTING, Liveness, liveness, role

#: Operations that leave their operand as it was, unlike the one whose name ends in an underscore.
_RESULTS = frozenset({"mul", "div", "add", "sub", "neg", "fill", "zero", "clamp", "normal", "uniform"})
_SAME = frozenset({"clone", "_to_copy", "lift_fresh"})  # leave the values as they are


def lost_writes(
    reading: Reading,
    modules: Iterable[tuple[str, nn.Module]],
    tensors: Mapping[str, torch.Tensor],
    strays: Iterable[torch.Tensor],
    ties: Iterable[Tie],
) -> tuple[LostWrite, ...]:
    """Initialisations whose result is in no tensor that the model holds, `strays` included.

    What the constructors of torch.nn write never counts, nor does what tying replaced.
    """
    recorder = reading.recorder
    held = [s for t in tensors.values() if (s := recorder.storage(t)) is not None]
    held += [s for t in strays if (s := recorder.storage(t)) and not _parametrises(s[0])]
    alive = reached([*((storage, len(storage)) for storage in held), *recorder.reads])
    search = _Search(
        reading,
        tensors,
        {id(module): path for path, module in modules},
        frozenset(name for tie in ties for name in tie.names),
    )
    found: dict[tuple[object, object], LostWrite] = {}
    for storage, index in recorder.writes:
        if alive.get(id(storage), 0) <= index and _initialises(storage[index]):
            lost = search.lost(storage, index)
            if lost is not None:
                found[id(storage), storage[index].lines] = lost  # one call, one report
    for storage in tuple(recorder.storages.values()):
        if storage and not alive.get(id(storage)) and (end := _let_go(storage)) != "kept":
            taken = {entry.subject for entry in found.values()}
            lost = search.unused(storage, end, taken)
            if lost is not None:
                found[lost.subject, storage[-1].lines] = lost
    return tuple(found.values())


def _initialises(event: Event) -> bool:
    """A call of torch.nn.init, or a write of the whole tensor without regard to what it held."""
    return bool(event.lines) and (event.arguments is not None or replaces(event))


@dataclass(frozen=True, slots=True)
class _Search:
    reading: Reading
    tensors: Mapping[str, torch.Tensor]
    paths: Mapping[int, str]
    tied: frozenset[str]

    def lost(self, storage: Storage, index: int) -> LostWrite | None:
        """Why a write that reached nothing was in vain; None if that may well be meant."""
        if storage.slots:
            return self._replaced(storage, index)
        source = _parameter_behind(storage)
        if source is None:
            return self._nowhere(storage, index)
        owner, local = source.slots[-1]
        subject = self._path(owner)
        made = storage[0]
        if spelling.operation(made).function == "deepcopy":
            return None  # a whole layer was copied, and the copy given up: nobody took it for the layer
        if _parametrises(made):
            layer, _, rest = subject.partition("parametrizations.")
            write = self.reading.write(storage, index)
            return LostWrite(write, "parametrized", layer.rstrip("."), rest or "weight")
        name = f"{subject}.{local}".lstrip(".")
        maker = spelling.operation(made).spelled
        return LostWrite(self.reading.write(storage, index), "temporary", name, maker)

    def _nowhere(self, storage: Storage, index: int) -> LostWrite | None:
        """A tensor that torch.nn.init filled and nothing read, as large as a parameter left alone."""
        called = storage[index].called
        if called is None or role(called) != "init" or storage[0].inputs:
            return None
        name = next(self._left_alone(storage[index].numel), None)
        return LostWrite(self.reading.write(storage, index), "temporary", name) if name is not None else None

    def unused(self, storage: Storage, end: Liveness, taken: Set[str]) -> LostWrite | None:
        """A result of a parameter's size that the line let go: computed from the parameter, or from none."""
        source = _parameter_behind(storage)
        if source is not None and source.numel == storage[-1].numel:
            owner, local = source.slots[-1]
            module = owner.reference()
            name = f"{self._path(owner)}.{local}".lstrip(".") if id(module) in self.paths else ""
        elif source is None and end not in ("dropped", "unread"):
            name = next((n for n in self._left_alone(storage[-1].numel) if n not in taken), "")
        else:
            return None
        write = self.reading.write(storage, len(storage) - 1)
        if name not in self.tensors:
            return None
        match end:
            case "entry":
                return LostWrite(write, "entry", name)
            case "dropped" | "rebound" | "unread":
                return LostWrite(write, "unused", name, end=end)
        return None

    def _left_alone(self, numel: int) -> Iterator[str]:
        """Tensors of this size, above one, that hold what their constructor gave them."""
        for name, tensor in self.tensors.items():
            held = self.reading.recorder.storage(tensor)
            if held and tensor.numel() == numel > 1 and all(event.default for event in held):
                yield name

    def _replaced(self, storage: Storage, index: int) -> LostWrite | None:
        """The written parameter gave its place to one that kept the values of its constructor."""
        owner, local = storage.slots[-1]
        name = f"{self._path(owner)}.{local}".lstrip(".")
        now = self.tensors.get(name)
        current = self.reading.recorder.storage(now) if now is not None else None
        if now is None or not current or name in self.tied:
            return None
        if any(not event.default and not event.operator.empty for event in current):
            return None
        write = self.reading.write(storage, index)
        if not self._same_function(owner, storage, current):
            return None  # another function gave the layer's place to a new one, as for a new task
        record = self.reading.recorder.registered(now)
        if record is not None and any(record is owner for owner, _ in storage.slots):
            return LostWrite(write, "detached", name)
        return LostWrite(write, "replaced", name)

    def _same_function(self, owner: Module, old: Storage, new: Storage) -> bool:
        """One function put both the written parameter and its successor, or what holds them, in place."""
        record, name = owner, ""
        seen: set[int] = set()
        while id(record) not in seen:
            seen.add(id(record))
            module = record.reference()
            if module is not None and id(module) in self.paths:
                break
            if not record.parents:
                return False
            before = record
            record, name = record.parents[-1]
        if record is owner:
            return bool(old[0].lines and new[0].lines) and old[0].lines[0][0] is new[0].lines[0][0]
        module = record.reference()
        successor = module._modules.get(name) if module is not None else None
        after = self.reading.recorder.modules.get(id(successor))
        if after is None or before.registered is None or after.registered is None:
            return False
        return before.registered[0] is after.registered[0]

    def _path(self, record: Module) -> str:
        """Where a module is in the model, or was: the place it was last registered at."""
        steps: list[str] = []
        seen: set[int] = set()
        while id(record) not in seen:
            seen.add(id(record))
            module = record.reference()
            if module is not None and id(module) in self.paths:
                return ".".join(filter(None, (self.paths[id(module)], *reversed(steps))))
            if not record.parents:
                break
            record, name = record.parents[-1]
            steps.append(name)
        return ".".join(reversed(steps))


def _parameter_behind(storage: Storage) -> Storage | None:
    """The parameter that a temporary was computed from."""
    seen: set[int] = set()
    queue = [storage]
    while queue:
        current = queue.pop()
        if id(current) not in seen and current:
            seen.add(id(current))
            for source, _ in current[0].inputs:
                if source.slots:
                    return source
                queue.append(source)
    return None


def _parametrises(event: Event) -> bool:
    """The event computed a parametrised weight."""
    files = (event.inner[0].co_filename, event.called.co_filename if event.called is not None else "")
    return any("parametriz" in file or "weight_norm" in file or "spectral_norm" in file for file in files)


def _let_go(storage: Storage) -> Liveness:
    """Where the user's line put what it computed, if that can be the initialisation of a parameter."""
    event = storage[-1]
    if event.default or not event.lines or event.operator.name in _SAME:
        return "kept"
    likely = event.called is None and event.operator.name in _RESULTS
    listed = not LISTING.isdisjoint(event.lines[0][0].co_names)
    if not (likely or listed):
        return "kept"
    ends: list[Liveness] = [end for line in event.lines if (end := liveness(line)) != "returned"]
    if not ends or (ends[0] in ("dropped", "unread") and not likely):
        return "kept"
    return ends[0]
