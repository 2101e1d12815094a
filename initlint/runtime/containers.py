"""Walks over nested containers, of any depth, that may be cyclic or endless.

What users hand to a model, or get from it, is walked by `leaves` and rebuilt by `mapped`. Arguments of an
operator are walked by `operands`: they hold lists, tuples and dicts alone, and one that stands there twice
counts twice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from itertools import islice
from types import GeneratorType
from typing import Any, TypeVar

import torch

T = TypeVar("T")

DEPTH = 8  # containers inside each other; deeper ones are left alone, so that cycles end
MOST_YIELDED = 256  # results of one forward; a generator may never end
ATOMS = (bool, int, float, complex, str, bytes, type, torch.dtype, torch.device)


def leaves(
    value: object, *, without: Container[object] = (), depth: int = DEPTH, seen: set[int] | None = None
) -> Iterator[torch.Tensor]:
    """Tensors in tuples, lists, sets, mappings, dataclasses and plain objects, each of them once.

    What stands under a key or attribute in `without` is left out; `seen` holds the ids of what was met.
    """
    seen = set() if seen is None else seen
    if value is None or isinstance(value, ATOMS) or id(value) in seen:
        return
    if isinstance(value, torch.Tensor):
        seen.add(id(value))
        yield value
    elif depth and not callable(value):
        seen.add(id(value))
        for key, part in _parts(value):
            if key not in without:
                yield from leaves(part, without=without, depth=depth - 1, seen=seen)


def _parts(item: object) -> Iterator[tuple[object, object]]:
    """What a container or object holds, with its key or attribute; None for what has neither."""
    if isinstance(item, Mapping):
        yield from item.items()
    elif isinstance(item, (list, tuple, set, frozenset)):
        yield from ((None, part) for part in item)
    elif is_dataclass(item):
        yield from ((field.name, getattr(item, field.name, None)) for field in fields(item))
    else:
        yield from getattr(item, "__dict__", {}).items()


def operands(arguments: object, kind: type[T]) -> Iterator[T]:
    """What is of a kind among the arguments of an operator, in order, as often as it stands there."""
    if isinstance(arguments, kind):
        yield arguments
    elif isinstance(arguments, (list, tuple)):
        for item in arguments:
            yield from operands(item, kind)
    elif isinstance(arguments, dict):
        for item in arguments.values():
            yield from operands(item, kind)


def mapped(
    value: Any, change: Callable[[Any], Any], kind: type | tuple[type, ...] = torch.Tensor, depth: int = DEPTH
) -> Any:
    """The same containers of the same classes, with all in them that is of a kind changed.

    A mapping that cannot be written is no container here, but a leaf.
    """

    def inside(item: Any) -> Any:
        return mapped(item, change, kind, depth - 1)

    if depth:
        match value:
            case list():
                return list(map(inside, value))
            case tuple():
                items = map(inside, value)
                return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
            case set() | frozenset():
                return type(value)(map(inside, value))
            case MutableMapping():
                rebuilt = copy.copy(value)
                for key, item in value.items():
                    rebuilt[key] = inside(item)
                return rebuilt
    return change(value) if isinstance(value, kind) else value


def drained(output: object) -> object:
    """What a forward returned; of a generator, the results that it yields."""
    return list(islice(output, MOST_YIELDED)) if isinstance(output, GeneratorType) else output
