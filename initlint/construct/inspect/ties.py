"""Parameters that are one object under several names, and those that were meant to be.

Needs the live model: which names are one object or share memory, which values are equal, and what its classes
and configurations declare as tied.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.construct.events import Module
from initlint.construct.inspect.modules import Build
from initlint.evidence import Provenance, Tie
from initlint.finding import Site
from initlint.runtime import attribute
from initlint.source import definition, outside, package, unconditional


def ties(build: Build, provenance: Mapping[str, Provenance]) -> tuple[Tie, ...]:
    """Parameters with several names, and two parameters that were one, or were meant to be."""
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
    for tie in (
        *_lost(build, by_name, provenance),
        *_declared(build, by_name),
        *_written(build, by_name),
        *_copied(build, provenance),
    ):
        if not any(set(tie.names) <= set(other.names) for other in found):
            found.append(tie)
    return tuple(found)


def _shared(build: Build) -> Iterator[Tie]:
    """Different Parameters in the very same memory: `.data = other.data`."""
    places: dict[tuple[int, int, int], list[str]] = {}
    for name, tensor in build.tensors.items():
        storage = build.recorder.storage(tensor) if isinstance(tensor, nn.Parameter) else None
        if storage is not None and not is_lazy(tensor) and tensor.numel():
            place = (id(storage), int(tensor.storage_offset()), tensor.numel())
            places.setdefault(place, []).append(name)
    for names in places.values():
        if len(names) > 1:
            broken = sum(build.tensors[name].requires_grad for name in names) > 1
            lines = (build.recorder.attributes.lent(build.tensors[name]) for name in names)
            line = next(filter(None, lines), None)
            site = build.positions.site(line) if line is not None else None
            yield Tie(tuple(names), broken, "memory", site)


def _copied(build: Build, provenance: Mapping[str, Provenance]) -> Iterator[Tie]:
    """A read-out that was given a copy of the embedding's values, not the embedding's Parameter."""
    owners = dict(build.modules)
    for name, origin in provenance.items():
        source = origin.copied_from
        if source is None or source not in build.tensors:
            continue
        first, second = build.tensors[source], build.tensors[name]
        kinds = {type(owners.get(n.rpartition(".")[0])) for n in (source, name)}
        if kinds == {nn.Embedding, nn.Linear} and first.requires_grad and second.requires_grad:
            last = origin.last_write
            if first.shape == second.shape and torch.equal(first, second):
                yield Tie((source, name), True, "values", last.site if last else origin.allocation)


def _written(build: Build, by_name: Mapping[str, int]) -> Iterator[Tie]:
    """What a method such as tie_weights would make one, but nothing calls it."""
    for path, module in build.modules:
        prefix = f"{path}." if path else ""
        cls: Any = type(module)
        for first, second, site in _assignments(cls):
            if site.function in _spoken(build):
                continue  # called under some condition
            one, other = prefix + second, prefix + first
            if one in by_name and other in by_name and by_name[one] != by_name[other]:
                yield Tie((one, other), True, "tie_weights", site)


def _spoken(build: Build) -> frozenset[str]:
    """Names in the code of the model's classes and of the functions that put it together."""
    methods = {
        value.__code__
        for _, module in build.modules
        for base in type(module).__mro__
        for value in vars(base).values()
        if isinstance(value, FunctionType) and outside(value.__code__.co_filename)
    }
    makers = {
        line[0]
        for record in build.recorder.modules.values()
        for line in (record.constructed, record.registered)
        if line is not None
    }
    return frozenset(name for code in methods | makers for name in code.co_names)


@functools.lru_cache(maxsize=4096)
def _assignments(cls: type) -> tuple[tuple[str, str, Site], ...]:
    """(target, source, line of the method) of what uncalled methods would tie: `self.a.w = self.b.w`."""
    found = []
    for name in (name for base in cls.__mro__ for name in vars(base) if _TYING.search(name)):
        function = inspect.unwrap(getattr(cls, name))
        code = getattr(function, "__code__", None)
        if code is None or not outside(code.co_filename):
            continue
        for statement in unconditional(code):
            match statement:
                case ast.Assign(targets=[ast.Attribute() as target], value=ast.Attribute() as value):
                    to, source = _chain(target), _chain(value)
                    if to and source:
                        found.append((to, source, definition(code)))
    return tuple(found)


_TYING = re.compile(r"(^|_)(tie|share)(_|$)")


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


def _lost(build: Build, by_name: Mapping[str, int], provenance: Mapping[str, Provenance]) -> Iterator[Tie]:
    """Two places that once held the same Parameter and hold two of the same shape now."""
    places = _places(build) if build.recorder.ties else {}
    for tying in build.recorder.ties:
        stays = any(id(record.reference()) in places for record, _ in (tying.first, tying.second))
        names = [
            next(
                (n for p in _paths(record, places, stays) if (n := f"{p}.{name}".lstrip(".")) in by_name),
                None,
            )
            for record, name in (tying.first, tying.second)
        ]
        first, second = names
        if first is None or second is None or by_name[first] == by_name[second]:
            continue
        if build.model.get_parameter(first).shape != build.model.get_parameter(second).shape:
            continue
        replaced = (_replaced(build, tying.second, second), _replaced(build, tying.first, first))
        made = (provenance[name].allocation for name in (second, first) if name in provenance)
        broke = next(filter(None, (*replaced, *made)), None)
        tied = build.positions.site(tying.line) if tying.line else None
        yield Tie((first, second), True, "constructor", broke, tied)


def _replaced(build: Build, place: tuple[Module, str], name: str) -> Site | None:
    """The line that put another module in the place of the one that was tied."""
    now = build.model.get_submodule(name.rpartition(".")[0])
    return None if place[0].reference() is now else build.line(now)[1]


def _paths(record: Module, places: Mapping[int, list[str]], deep: bool) -> Iterator[str]:
    """Where a module is in the model; if another took its place, where it was.

    If `deep`, also inside of a module that another took the place of.
    """
    module = record.reference()
    if module is not None and id(module) in places:
        yield from places[id(module)]
        return
    for parent, name in record.parents:
        holder = parent.reference()
        stands = holder is not None and id(holder) in places
        if (stands or deep) and parent is not record:
            yield from (f"{path}.{name}".lstrip(".") for path in _paths(parent, places, deep))


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
    declared = attribute(module, "all_tied_weights_keys")
    if declared is None:
        declared = getattr(type(module), "_tied_weights_keys", None)
        config = attribute(module, "config")
        if attribute(config, "tie_word_embeddings") is False:
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
