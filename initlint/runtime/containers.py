"""Walks over nested containers, of any depth, that may be cyclic or endless."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from types import GeneratorType
from typing import Any

import torch

MOST_YIELDED = 256  # results of one forward; a generator may never end
ATOMS = (bool, int, float, complex, str, bytes, type, torch.dtype, torch.device)


def tensors(value: object, depth: int = 8) -> Iterator[torch.Tensor]:
    """Tensors in a nest of tuples, lists, sets, mappings, dataclasses and plain objects."""
    seen: set[int] = set()

    def walk(item: object, depth: int) -> Iterator[torch.Tensor]:
        if isinstance(item, torch.Tensor):
            if id(item) not in seen:
                seen.add(id(item))
                yield item
            return
        if item is None or isinstance(item, ATOMS):
            return
        if depth == 0 or id(item) in seen or callable(item):
            return
        seen.add(id(item))
        for part in _parts(item):
            yield from walk(part, depth - 1)

    yield from walk(value, depth)


def drained(output: object) -> object:
    """What a forward returned; of a generator, the results that it yields."""
    return list(islice(output, MOST_YIELDED)) if isinstance(output, GeneratorType) else output


def _parts(item: object) -> Iterator[object]:
    if isinstance(item, Mapping):
        yield from item.values()
    elif isinstance(item, (list, tuple, set, frozenset)):
        yield from item
    elif is_dataclass(item):
        yield from (getattr(item, field.name, None) for field in fields(item))
    else:
        yield from getattr(item, "__dict__", {}).values()


def mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same nest of plain containers with every tensor changed."""
    match value:
        case torch.Tensor():
            return change(value)
        case list():
            return [mapped(item, change) for item in value]
        case tuple():
            items = [mapped(item, change) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        case dict():
            return {key: mapped(item, change) for key, item in value.items()}
        case Mapping():
            return type(value)({key: mapped(item, change) for key, item in value.items()})  # type: ignore[call-arg]
    return value
