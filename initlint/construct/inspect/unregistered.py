"""What takes part in a model without being registered: in containers, closures, plain attributes.

Needs the live model: the objects that its modules hold and the variables that their methods close over.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from types import CellType, FunctionType, MethodType
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.construct.inspect.modules import Build, class_package
from initlint.construct.provenance import Strays
from initlint.evidence import Unregistered
from initlint.finding import Site
from initlint.source import assignment, container, moves_to_device, outside

_SKIPPED = frozenset(vars(nn.Module())) | {"__dict__"}
_LIMIT = 20_000  # objects looked at in one model's attributes
_DEEP = 6  # containers inside containers


@dataclass(frozen=True, slots=True)
class Hidden:
    """A module or tensor that some registered module can get at, but does not know as its own."""

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
    """Modules, parameters and tensors within the model's reach that registration does not know."""
    modules = tuple(nn.Module.named_modules(model))
    known = {id(module) for _, module in modules} | {id(parameter) for parameter in model.parameters()}
    for _, module in modules:
        known.update(map(id, module._parameters.values()))
        known.update(map(id, module._buffers.values()))
    found: list[Hidden] = []
    walk = _Walk(known)
    for path, module in modules:
        prefix = f"{path}." if path else ""
        for name, value in vars(module).items():
            if name not in _SKIPPED and name not in module._modules and value is not None:
                found.extend(walk.look(value, path, prefix + name, "attribute", _DEEP))
    for path, module in modules:
        prefix = f"{path}." if path else ""
        cls: Any = type(module)
        for name, value, kind in _surroundings(cls):
            found.extend(walk.look(value, path, prefix + name, kind, 1))
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
            tensors = (*value.parameters(), *value.buffers())
            new = not tensors or any(id(tensor) not in self.seen for tensor in tensors)
            self.seen.update(id(m) for m in value.modules())
            self.seen.update(map(id, tensors))
            if new:
                yield Hidden(value, owner, path, container)
        elif isinstance(value, torch.Tensor):
            yield Hidden(value, owner, path, container)
        else:
            try:
                parts = tuple(_parts(value, container))
            except Exception:  # whatever a user's container raises when it is looked through
                return
            for step, inner, inside in parts:
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


_HOLDING = (nn.Module, torch.Tensor, list, tuple, dict)


@functools.lru_cache(maxsize=4096)
def _surroundings(cls: type) -> tuple[tuple[str, object, str], ...]:
    """Class attributes of a user's own class, and what its methods refer to outside themselves."""
    if class_package(cls) is not None:
        return ()
    found: dict[str, tuple[object, str]] = {}
    for base in cls.__mro__:
        if class_package(base) is not None:
            continue
        for name, value in vars(base).items():
            if isinstance(value, FunctionType) and outside(value.__code__.co_filename):
                code = value.__code__
                cells = zip(code.co_freevars, value.__closure__ or (), strict=False)
                found.update((free, (_content(cell), "closure")) for free, cell in cells)
                world = value.__globals__
                found.update((n, (world[n], "global")) for n in code.co_names if n in world)
            elif not name.startswith("__"):
                found.setdefault(name, (value, "class"))
    return tuple((n, value, kind) for n, (value, kind) in found.items() if isinstance(value, _HOLDING))


# ---------------------------------------------------------------- records


def unregistered(build: Build, found: tuple[Hidden, ...], strays: Strays) -> tuple[Unregistered, ...]:
    """Records of what hides from registration."""
    if not found:
        return ()
    memory = {_memory(tensor) for tensor in build.tensors.values()}
    registered = {id(tensor) for tensor in build.tensors.values()}
    owners = dict(build.modules)
    records = (_record(build, item, type(owners[item.owner]), strays, memory, registered) for item in found)
    return tuple(record for record in records if record is not None)


def _record(
    build: Build, item: Hidden, owner: Any, strays: Strays, memory: Set[object], registered: Set[int]
) -> Unregistered | None:
    tensors = [t for t in item.tensors if id(t) not in registered]
    value = item.value
    kind: Literal["module", "parameter", "buffer"] = "module"
    names: tuple[str, ...] = (item.path,)
    if isinstance(value, nn.Module):
        names = tuple(
            f"{item.path}.{name}" for name, t in value.named_parameters() if id(t) not in registered
        )
    elif _memory(value) in memory or (value.grad_fn is not None and _roots(value) <= registered):
        return None  # a view of a registered tensor or computed from such, kept at hand
    else:
        kind = "parameter" if isinstance(value, nn.Parameter) or value.requires_grad else "buffer"
    if not tensors:
        return None
    attribute = item.path.removeprefix(item.owner).lstrip(".").partition(".")[0]
    made = next((site for t in tensors if (site := strays.made.get(id(t))) is not None), None)
    if isinstance(value, nn.Module):
        made = build.line(value)[0] or made
    assigned = assignment(owner, attribute) if item.container not in _FREE else None
    return Unregistered(
        kind=kind,
        path=item.path,
        owner=item.owner,
        container=item.container,
        parameters=names,
        elements=sum(_numel(t) for t in tensors),
        trainable=any(t.requires_grad for t in tensors),
        random=any(id(t) in strays.random for t in tensors),
        scalar=kind != "module" and not is_lazy(tensors[0]) and tensors[0].dim() == 0,
        moved=moves_to_device(owner, attribute),
        site=_line(owner, attribute, item.container, assigned, made),
        assigned=assigned,
        made=made,
        persistent_state=any(_overrides(owner, name) for name in _KEEPING),
    )


_FREE = ("closure", "global")  # not reached through self
_KEEPING = ("_apply", "to", "cuda", "_save_to_state_dict", "get_extra_state")


def _line(owner: type, attribute: str, kind: str, assigned: Site | None, made: Site | None) -> Site | None:
    """The line to change: where a container is made, else where the thing is put in its place, else made."""
    literal = container(owner, attribute) if kind in ("list", "dict", "tuple") else None
    return literal or assigned or made


def _roots(tensor: torch.Tensor) -> set[int]:
    """Ids of the leaves that a tensor was computed from."""
    found: set[int] = set()
    seen: set[Any] = set()
    stack: list[Any] = [tensor.grad_fn]
    while stack:
        function = stack.pop()
        if function is not None and function not in seen:
            seen.add(function)
            if hasattr(function, "variable"):
                found.add(id(function.variable))
            stack.extend(following for following, _ in function.next_functions)
    return found


def _overrides(cls: type, method: str) -> bool:
    return getattr(cls, method) is not getattr(nn.Module, method)


def _numel(tensor: torch.Tensor) -> int:
    return 0 if is_lazy(tensor) else tensor.numel()


def _memory(tensor: torch.Tensor) -> object:
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError, ValueError):  # sparse, some subclasses, lazy
        return id(tensor)
