"""Parameters that are one object under several names, and those that were meant to be."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.evidence import Tie
from initlint.finding import Site
from initlint.sites import outside, package
from initlint.source import body
from initlint.structure import Build


def ties(build: Build, allocations: Mapping[str, Site | None]) -> tuple[Tie, ...]:
    """Parameters with several names, and two parameters that once were, or are declared to be, one."""
    names: dict[int, list[str]] = {}
    for path, module in build.modules:
        for local, parameter in module._parameters.items():
            if parameter is not None:
                names.setdefault(id(parameter), []).append(f"{path}.{local}" if path else local)
    by_name = {name: key for key, group in names.items() for name in group}
    found = [
        Tie(tuple(group), False, "constructor", _tying_line(build, group))
        for group in names.values()
        if len(group) > 1
    ]
    found += _shared(build)
    for tie in (*_lost(build, by_name, allocations), *_declared(build, by_name), *_written(build, by_name)):
        if not any(set(tie.names) <= set(other.names) for other in found):
            found.append(tie)
    return tuple(found)


def _shared(build: Build) -> Iterator[Tie]:
    """Different Parameters in the very same memory: `.data = other.data`."""
    places: dict[tuple[int, int, torch.Size], list[str]] = {}
    for name, tensor in build.tensors.items():
        storage = build.recorder.storage(tensor) if isinstance(tensor, nn.Parameter) else None
        if storage is not None and not is_lazy(tensor) and tensor.numel():
            place = (id(storage), int(tensor.storage_offset()), tensor.shape)
            places.setdefault(place, []).append(name)
    for names in places.values():
        if len(names) > 1:
            yield Tie(tuple(names), False, "memory", None, "different parameters that share their memory")


def _written(build: Build, by_name: Mapping[str, int]) -> Iterator[Tie]:
    """What a method called like tie_weights would make one, but is two: nothing called it, or too early."""
    for path, module in build.modules:
        prefix = f"{path}." if path else ""
        cls: Any = type(module)
        for first, second, site in _assignments(cls):
            one, other = prefix + second, prefix + first
            if one in by_name and other in by_name and by_name[one] != by_name[other]:
                detail = f"{site.function} makes them one where it is called"
                yield Tie((one, other), True, "tie_weights", site, detail)


@functools.lru_cache(maxsize=4096)
def _assignments(cls: type) -> tuple[tuple[str, str, Site], ...]:
    """(target, source, line) of every unconditional `self.a.weight = self.b.weight` in tie_weights."""
    found = []
    for name in ("tie_weights", "_tie_weights"):
        function = inspect.unwrap(getattr(cls, name, None))  # type: ignore[arg-type]
        code = getattr(function, "__code__", None)
        if code is None or not outside(code.co_filename):
            continue
        for statement in body(code):
            match statement:
                case ast.Assign(targets=[ast.Attribute() as target], value=ast.Attribute() as value):
                    to, source = _chain(target), _chain(value)
                    if to and source:
                        site = Site(code.co_filename, statement.lineno, name, package(code.co_filename))
                        found.append((to, source, site))
    return tuple(found)


def _chain(node: ast.expr) -> str:
    """The attribute path from self: "decoder.weight"; empty if it is anything else."""
    steps: list[str] = []
    while isinstance(node, ast.Attribute):
        steps.append(node.attr)
        node = node.value
    return ".".join(reversed(steps)) if isinstance(node, ast.Name) and node.id == "self" else ""


def _places(build: Build) -> dict[int, list[str]]:
    places: dict[int, list[str]] = {}
    for path, module in build.modules:
        places.setdefault(id(module), []).append(path)
    return places


def _tying_line(build: Build, group: list[str]) -> Site | None:
    parameter = build.model.get_parameter(group[0])
    lines = [tying.line for tying in build.recorder.ties if tying.parameter() is parameter and tying.line]
    return build.positions.site(lines[-1]) if lines else None


def _lost(build: Build, by_name: Mapping[str, int], allocations: Mapping[str, Site | None]) -> Iterator[Tie]:
    """Two places that once held the same Parameter and hold two now."""
    if not build.recorder.ties:
        return
    places = _places(build)
    for tying in build.recorder.ties:
        names = []
        for record, name in (tying.first, tying.second):
            module = record.reference()
            paths = places.get(id(module), []) if module is not None else []
            names.append(next((n for p in paths if (n := f"{p}.{name}".lstrip(".")) in by_name), None))
        first, second = names
        if first is None or second is None or by_name[first] == by_name[second]:
            continue
        broke = allocations.get(second) or allocations.get(first)
        tied = build.positions.site(tying.line) if tying.line else None
        yield Tie((first, second), True, "constructor", broke, f"tied at {tied}" if tied else "")


def _declared(build: Build, by_name: Mapping[str, int]) -> Iterator[Tie]:
    for path, module in build.modules:
        prefix = f"{path}." if path else ""
        for target, source in _declarations(module):
            first, second = prefix + source, prefix + target
            if first in by_name and second in by_name and by_name[first] != by_name[second]:
                site = _declaration_site(type(module))
                yield Tie((first, second), True, "_tied_weights_keys", site)


def _declarations(module: nn.Module) -> Iterator[tuple[str, str]]:
    """(target, source) pairs that a class declares as tied and its configuration does not untie."""
    declared = getattr(module, "all_tied_weights_keys", None)
    if declared is None:
        declared = getattr(type(module), "_tied_weights_keys", None)
        config = getattr(module, "config", None)
        if config is not None and getattr(config, "tie_word_embeddings", True) is False:
            return
    if isinstance(declared, Mapping):
        yield from ((str(target), str(source)) for target, source in declared.items())
    elif isinstance(declared, (list, tuple)) and len(declared) > 1:
        yield from ((str(name), str(declared[0])) for name in declared[1:])


def _declaration_site(cls: type) -> Site | None:
    for base in cls.__mro__:
        if "_tied_weights_keys" in base.__dict__:
            try:
                lines, first = inspect.getsourcelines(base)
                file = inspect.getfile(base)
            except (OSError, TypeError):
                return None
            offset = next((i for i, text in enumerate(lines) if "_tied_weights_keys" in text), 0)
            return Site(file, first + offset, base.__name__, package(file))
    return None
