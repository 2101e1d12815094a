"""Walks a built model: its modules, what hides from registration, and which parameters are one object."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.evidence import ModuleRecord, Tie, Unregistered
from initlint.finding import Site
from initlint.recorder import Recorder
from initlint.sites import Positions, outside, package

RESETS = ("reset_parameters", "init_weights", "_init_weights", "_reset_parameters", "initialize_weights")
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
    code = getattr(reset, "__code__", None)
    return ModuleRecord(
        paths=paths,
        class_name=cls.__name__,
        qualified_class=f"{cls.__module__}.{cls.__qualname__}",
        package=_class_package(cls),
        construction=made,
        registration=put,
        children=tuple(module._modules),
        settings=_settings(module),
        has_reset=reset is not None,
        reset_called=code is not None and (id(code) in build.codes or not _certain(code)),
        reset_site=_code_site(code) if code is not None else None,
    )


@functools.lru_cache(maxsize=4096)
def _class_package(cls: type) -> str | None:
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


@functools.lru_cache(maxsize=4096)
def reset_method(cls: type) -> FunctionType | None:
    """The class's own initialising method, if it is defined outside torch."""
    for base in cls.__mro__:
        for name in RESETS:
            found = inspect.unwrap(base.__dict__[name]) if name in base.__dict__ else None
            if isinstance(found, FunctionType) and outside(found.__code__.co_filename):
                return found
    return None


def _code_site(code: CodeType) -> Site:
    return Site(code.co_filename, code.co_firstlineno, code.co_name, package(code.co_filename))


_certainty: dict[int, tuple[bool, CodeType]] = {}


def _certain(code: CodeType) -> bool:
    """A run of this code would have been seen: it writes or makes a tensor whatever the circumstances."""
    if id(code) not in _certainty:
        _certainty[id(code)] = (_writes_always(code), code)
    return _certainty[id(code)][0]


def _writes_always(code: CodeType) -> bool:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return False
    return isinstance(tree, ast.FunctionDef) and any(
        isinstance(part, ast.Call)
        and isinstance(part.func, ast.Attribute)
        and part.func.attr.endswith("_")
        and not part.func.attr.startswith("_")
        for statement in _unconditional(tree.body)
        for part in ast.walk(statement)
    )


def _unconditional(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, (ast.Expr, ast.Assign, ast.AugAssign, ast.Return)):
            yield statement
        elif isinstance(statement, ast.With):
            yield from _unconditional(statement.body)


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
    return _class_package(cls) not in ("torch", "python") and cls.__module__ != "builtins"


def unregistered(
    build: Build, found: tuple[Hidden, ...], sites: Mapping[int, Site]
) -> tuple[Unregistered, ...]:
    """Records of what hides from registration; `sites` tells where tensors were made, by id."""
    if not found:
        return ()
    memory = {_memory(tensor) for tensor in build.tensors.values()}
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
        records.append(
            Unregistered(
                kind=kind,
                path=item.path,
                owner=item.owner,
                container=item.container,
                parameters=names,
                elements=sum(_numel(t) for t in tensors),
                site=site,
            )
        )
    return tuple(records)


def _numel(tensor: torch.Tensor) -> int:
    return 0 if is_lazy(tensor) else tensor.numel()


def _memory(tensor: torch.Tensor) -> object:
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError, ValueError):  # sparse, some subclasses, lazy
        return id(tensor)


# ---------------------------------------------------------------- one object under several names


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
    for tie in (*_declared(build, by_name), *_lost(build, by_name, allocations)):
        if not any(set(tie.names) <= set(other.names) for other in found):
            found.append(tie)
    return tuple(found)


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
