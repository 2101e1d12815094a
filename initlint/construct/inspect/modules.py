"""The modules of a built model: where each stands, which line made it, and what its class defines.

Needs the live model: its modules by their positions, their scalar attributes, and the methods and argument
defaults of their classes.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn

from initlint.construct.recorder import Recorder
from initlint.evidence import ModuleRecord
from initlint.finding import Site
from initlint.source import Positions, definition, package, reset_method, text


@dataclass(frozen=True, slots=True)
class Build:
    """A built model with what was recorded about it."""

    model: nn.Module
    modules: tuple[tuple[str, nn.Module], ...]  # every position, in order of registration
    tensors: Mapping[str, torch.Tensor]  # parameters and buffers by their first name
    recorder: Recorder
    positions: Positions
    ran: Callable[[CodeType], bool]  # a function was called during the build

    def line(self, module: nn.Module) -> tuple[Site | None, Site | None]:
        """Where a module was constructed and where it was registered."""
        found = self.recorder.modules.get(id(module))
        if found is None or found.reference() is not module:
            return self._copied(module), None
        made = self.positions.site(found.constructed) if found.constructed else None
        put = self.positions.site(found.registered) if found.registered else None
        return made or put, put

    def _copied(self, module: nn.Module) -> Site | None:
        """A deep copy constructs nothing: the line that copied its tensors."""
        for tensor in (*module.parameters(), *module.buffers()):
            storage = self.recorder.storage(tensor)
            if storage and storage[0].lines:
                return self.positions.site(storage[0].lines[0])
        return None


def module_records(build: Build) -> tuple[ModuleRecord, ...]:
    """Every module of the model once, in order of registration."""
    paths: dict[int, list[str]] = {}
    modules: dict[int, nn.Module] = {}
    for path, module in build.modules:
        paths.setdefault(id(module), []).append(path)
        modules[id(module)] = module
    several = any(len(positions) > 1 for positions in paths.values())
    defaults = _defaults(modules.values()) if several else {}
    return tuple(
        _record(build, module, tuple(paths[key]), defaults.get(key)) for key, module in modules.items()
    )


def _defaults(modules: Iterable[nn.Module]) -> dict[int, Site]:
    """Modules, by id, that are defaults of arguments of the methods of some module: where those stand."""
    found: dict[int, Site] = {}
    classes: dict[type, None] = dict.fromkeys(type(module) for module in modules)
    for base in dict.fromkeys(base for cls in classes for base in cls.__mro__):
        for value in vars(base).values():
            if isinstance(value, FunctionType):
                defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
                for default in defaults:
                    inside = default if isinstance(default, (list, tuple)) else (default,)
                    site = definition(value.__code__)
                    found.update((id(item), site) for item in inside if isinstance(item, nn.Module))
    return found


def _record(build: Build, module: nn.Module, paths: tuple[str, ...], default_of: Site | None) -> ModuleRecord:
    cls: Any = type(module)
    made, put = build.line(module)
    reset = reset_method(cls)
    return ModuleRecord(
        paths=paths,
        class_name=cls.__name__,
        qualified_class=f"{cls.__module__}.{cls.__qualname__}",
        package=class_package(cls),
        construction=made,
        registration=put,
        children=tuple(module._modules.keys()),  # those of a ScriptModule have no iterator
        settings=_settings(module),
        has_reset=reset is not None,
        reset_called=reset is not None and build.ran(reset),
        reset_site=definition(reset) if reset is not None else None,
        default_of=default_of,
        sigmoid=made is not None and _speaks_of_sigmoid(made.file),
    )


@functools.lru_cache(maxsize=4096)
def class_package(cls: type) -> str | None:
    """The installed package that defines a class; None for the user's own."""
    name = cls.__module__.partition(".")[0]
    if name == "torch":
        return "torch"
    try:
        return package(inspect.getfile(cls))
    except (TypeError, OSError):
        return None


_SIGMOID = re.compile(r"sigmoid|focal|binary_cross_entropy|bce", re.I)  # and the losses with one inside


@functools.lru_cache(maxsize=256)
def _speaks_of_sigmoid(file: str) -> bool:
    return _SIGMOID.search(text(file)) is not None


def _settings(module: nn.Module) -> dict[str, float | int | str | bool]:
    settings: dict[str, float | int | str | bool] = {
        name: value
        for name, value in vars(module).items()
        if type(value) in (bool, int, float, str) and not name.startswith("_") and name != "training"
    }
    if "bias" in module._parameters:
        settings["bias"] = module._parameters["bias"] is not None
    return settings
