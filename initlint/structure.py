"""Walks a built model: its modules, what hides from registration, and which parameters are one object."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CellType, FunctionType, MethodType
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.evidence import ModuleRecord, Unregistered
from initlint.finding import Site
from initlint.recorder import Recorder
from initlint.resets import definition, may_have_run, reset_method
from initlint.sites import Positions, package
from initlint.source import container

_SKIPPED = frozenset(vars(nn.Module())) | {"__dict__"}
_LIMIT = 20_000  # objects looked at in one model's attributes
_DEEP = 6  # containers inside containers


@dataclass(frozen=True, slots=True)
class Build:
    """A built model with what was recorded about it."""

    model: nn.Module
    modules: tuple[tuple[str, nn.Module], ...]  # every position, in order of registration
    tensors: Mapping[str, torch.Tensor]  # parameters and buffers by their first name
    recorder: Recorder
    positions: Positions
    codes: frozenset[int]  # ids of the code objects that stood in the stack of some operation

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
    return tuple(_record(build, module, tuple(paths[key])) for key, module in modules.items())


def _record(build: Build, module: nn.Module, paths: tuple[str, ...]) -> ModuleRecord:
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
        children=tuple(module._modules),
        settings=_settings(module),
        has_reset=reset is not None,
        reset_called=reset is not None and (id(reset) in build.codes or may_have_run(cls, reset)),
        reset_site=definition(reset) if reset is not None else None,
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


def _settings(module: nn.Module) -> dict[str, float | int | str | bool]:
    settings: dict[str, float | int | str | bool] = {
        name: value
        for name, value in vars(module).items()
        if type(value) in (bool, int, float, str) and not name.startswith("_") and name != "training"
    }
    if "bias" in module._parameters:
        settings["bias"] = module._parameters["bias"] is not None
    return settings


# ---------------------------------------------------------------- what is not registered


@dataclass(frozen=True, slots=True)
class Hidden:
    """Something found in the attributes of a registered module."""

    value: nn.Module | torch.Tensor
    owner: str
    path: str
    container: str

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The tensor itself, or all that the module holds."""
        if isinstance(self.value, nn.Module):
            return (*self.value.parameters(), *self.value.buffers())
        return (self.value,)


def hidden(model: nn.Module) -> tuple[Hidden, ...]:
    """Modules, parameters and tensors held by the model that registration does not know."""
    modules = tuple(model.named_modules())
    known = {id(module) for _, module in modules}
    for _, module in modules:
        known.update(map(id, module._parameters.values()))
        known.update(map(id, module._buffers.values()))
    found: list[Hidden] = []
    walk = _Walk(known)
    for path, module in modules:
        for name, value in vars(module).items():
            if name in _SKIPPED or name in module._modules or value is None:
                continue
            full = f"{path}.{name}" if path else name
            found.extend(walk.look(value, path, full, "attribute", _DEEP))
    return tuple(found)


class _Walk:
    """One look through attributes; every object is looked at once."""

    def __init__(self, seen: set[int]) -> None:
        self.seen = seen
        self.left = _LIMIT

    def look(self, value: object, owner: str, path: str, container: str, deep: int) -> Iterator[Hidden]:
        """Hidden modules and tensors in a value."""
        if value is None or type(value) in _PLAIN or id(value) in self.seen or self.left <= 0 or deep < 0:
            return
        self.left -= 1
        self.seen.add(id(value))
        if isinstance(value, nn.Module):
            # Its own submodules are hidden with it.
            self.seen.update(id(m) for m in value.modules())
            self.seen.update(id(t) for t in (*value.parameters(), *value.buffers()))
            yield Hidden(value, owner, path, container)
        elif isinstance(value, torch.Tensor):
            yield Hidden(value, owner, path, container)
        else:
            for step, inner, inside in _parts(value, container):
                yield from self.look(inner, owner, f"{path}.{step}" if step else path, inside, deep - 1)


_PLAIN = frozenset({int, float, str, bool, bytes, complex, type, torch.dtype, torch.device, torch.Size})


def _parts(value: object, container: str) -> Iterator[tuple[str, object, str]]:
    """What a value holds: step of the path, the thing, and the kind of container."""
    if isinstance(value, Mapping):
        yield from ((str(key), item, "dict") for key, item in list(value.items()))
    elif isinstance(value, (list, tuple, set, frozenset)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        yield from ((str(index), item, kind) for index, item in enumerate(value))
    elif isinstance(value, functools.partial):
        yield from (("", item, "closure") for item in (value.func, *value.args, *value.keywords.values()))
    elif isinstance(value, MethodType):
        yield "", value.__self__, "closure"
    elif isinstance(value, FunctionType):
        yield from (("", _content(cell), "closure") for cell in value.__closure__ or ())
        yield from (("", item, "closure") for item in value.__defaults__ or ())
    elif container == "attribute" and _is_holder(value):
        yield from ((name, item, "object") for name, item in list(vars(value).items()))


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _is_holder(value: object) -> bool:
    """A plain object of a class outside torch and the standard library."""
    if not hasattr(value, "__dict__") or isinstance(value, type) or inspect.ismodule(value):
        return False
    cls: Any = type(value)
    return class_package(cls) not in ("torch", "python") and cls.__module__ != "builtins"


def unregistered(
    build: Build, found: tuple[Hidden, ...], sites: Mapping[int, Site]
) -> tuple[Unregistered, ...]:
    """Records of what hides from registration; `sites` tells where tensors were made, by id."""
    if not found:
        return ()
    memory = {_memory(tensor) for tensor in build.tensors.values()}
    owners = dict(build.modules)
    records = []
    for item in found:
        value = item.value
        if isinstance(value, nn.Module):
            names = tuple(f"{item.path}.{name}" for name, _ in value.named_parameters())
            tensors = [*value.parameters(), *value.buffers()]
            if not tensors:
                continue
            kind: Literal["module", "parameter", "buffer"] = "module"
            site = build.line(value)[0] or sites.get(id(tensors[0]))
        else:
            if _memory(value) in memory:
                continue  # a view of a registered tensor, kept at hand
            kind = "parameter" if isinstance(value, nn.Parameter) or value.requires_grad else "buffer"
            names, tensors, site = (item.path,), [value], sites.get(id(value))
        owner: Any = type(owners[item.owner])
        if item.container in ("list", "dict", "tuple"):
            attribute = item.path.removeprefix(item.owner).lstrip(".").partition(".")[0]
            site = container(owner, attribute) or site
        records.append(
            Unregistered(
                kind=kind,
                path=item.path,
                owner=item.owner,
                container=item.container,
                parameters=names,
                elements=sum(_numel(t) for t in tensors),
                site=site,
                persistent_state=any(_overrides(owner, name) for name in _KEEPING),
            )
        )
    return tuple(records)


_KEEPING = ("_apply", "_save_to_state_dict", "get_extra_state", "state_dict")


def _overrides(cls: type, method: str) -> bool:
    return getattr(cls, method) is not getattr(nn.Module, method)


def _numel(tensor: torch.Tensor) -> int:
    return 0 if is_lazy(tensor) else tensor.numel()


def _memory(tensor: torch.Tensor) -> object:
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError, ValueError):  # sparse, some subclasses, lazy
        return id(tensor)
