"""What became of values: where they came from, which memory nobody wrote, and what went into what.

Works on the events of a recorded build (recorder.py). Every event has its place in one order and refers
to earlier ones only, so that one pass forward settles a storage and all that was computed into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from torch import nn

from initlint.construct.events import Event, Storage

Kind = Literal["random", "constant", "copy", "transform", "unknown"]

# What a mixture is called: the first of these that went into it.
_RANK: tuple[Kind, ...] = ("random", "copy", "transform", "constant")
_COPYING = ("clone", "copy_", "_to_copy")
_MODULE = nn.Module.to.__code__.co_filename


def replaces(event: Event) -> bool:
    """Nothing of what the storage held before is left after the event."""
    return event.part is None and event.operator.replaces


def copied(event: Event) -> tuple[Storage, int] | None:
    """The tensor, at its version, whose values were copied whole to a whole tensor.

    Only tensors that were parameters, or that are being deep-copied or moved: other sources are temporaries.
    """
    if event.part is not None or not event.inputs or event.operator.name not in _COPYING:
        return None
    source, version = event.inputs[-1]
    if version == 0 or source.numel != event.numel:
        return None
    whole = source.slots or event.inner[0].co_name == "__deepcopy__" or moves(event)
    return (source, version) if whole else None


def moves(event: Event) -> bool:
    """The event only moved values to another device or dtype, as Module.to does."""
    return (
        event.operator.name == "_to_copy" and event.called is not None and event.called.co_filename == _MODULE
    )


def ancestry(storage: Storage, version: int | None = None) -> Iterator[tuple[Storage, int]]:
    """Tensors, with their version, whose values were copied whole into this one: nearest first."""
    version = len(storage) if version is None else version
    seen = {id(storage)}
    while version and (source := copied(storage[version - 1])) is not None and id(source[0]) not in seen:
        storage, version = source
        seen.add(id(storage))
        yield storage, version


def reached(held: Iterable[tuple[Storage, int]]) -> dict[int, int]:
    """Storages (by id) whose values went into these, with the latest version that did."""
    found: dict[int, int] = {}
    queue = list(held)
    while queue:
        storage, version = queue.pop()
        before = found.get(id(storage), 0)
        if version > before:
            found[id(storage)] = version
            for event in storage[before:version]:
                queue.extend(event.inputs)
    return found


class _State(NamedTuple):
    """Of one storage: the kind of each event, and what the storage was after the first n events."""

    kinds: list[Kind]
    contents: list[Kind]
    tainted: list[bool]


class Dataflow:
    """Answers about storages; each is looked at once."""

    def __init__(self) -> None:
        self._states: dict[int, _State] = {}

    def kind(self, storage: Storage, index: int) -> Kind:
        """Where the values come from that the event at `index` wrote."""
        event = storage[index]
        return self._state(storage).kinds[index] if event.inputs else _kind(event, set())

    def tainted(self, storage: Storage) -> bool:
        """Some of the values may be memory that nobody wrote, or computed from such memory."""
        for event in reversed(storage):
            if event.inputs:
                return self._state(storage).tainted[-1]
            if event.operator.empty or (event.part is None and event.operator.replaces):
                return event.operator.empty
        return False

    def _state(self, storage: Storage) -> _State:
        if id(storage) not in self._states:
            self._settle(storage)
        return self._states[id(storage)]

    def _settle(self, storage: Storage) -> None:
        fresh: dict[int, Storage] = {}
        queue = [storage]
        while queue:
            current = queue.pop()
            if id(current) not in fresh and id(current) not in self._states:
                fresh[id(current)] = current
                queue.extend(source for event in current for source, _ in event.inputs)
        for key in fresh:
            self._states[key] = _State([], ["unknown"], [False])
        events = [(event.order, current, event) for current in fresh.values() for event in current]
        if len(fresh) > 1:
            events.sort(key=lambda item: item[0])
        for _, current, event in events:
            self._advance(current, event)

    def _advance(self, storage: Storage, event: Event) -> None:
        state = self._states[id(storage)]
        sources = [(self._states[id(s)], v) for s, v in event.inputs if s is not storage]
        kind = _kind(event, {source.contents[version] for source, version in sources})
        tainted = any(source.tainted[version] for source, version in sources)
        if event.operator.empty:
            tainted = True
        elif not replaces(event):
            tainted = tainted or state.tainted[-1]
        before = "unknown" if replaces(event) else state.contents[-1]
        state.kinds.append(kind)
        state.contents.append(next((rank for rank in _RANK if rank in (kind, before)), "unknown"))
        state.tainted.append(tainted)


def _kind(event: Event, inputs: set[Kind]) -> Kind:
    operator = event.operator
    if operator.random:
        return "random"
    if operator.empty:
        return "unknown"
    if copied(event) is not None:
        return "copy"
    if operator.constant and operator.name not in ("fill_", "scalar_tensor"):  # zeros_like, masked_fill_
        return "constant"
    if "random" in inputs:
        return "random"
    if not inputs:
        if operator.name == "lift_fresh":  # torch.tensor(…), torch.from_numpy(…)
            return "constant" if event.numel == 1 else "copy"
        return "constant" if operator.constant else "transform"
    if inputs == {"constant"} and (operator.pointwise or operator.constant):
        return "constant"
    if operator.passing:
        return next((rank for rank in _RANK if rank in inputs), "copy")
    return "transform"
