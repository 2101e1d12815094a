"""What tensors hold, kept to be put back.

Values are copied on write: a dispatch mode sees each in-place operator before it runs and copies the
memory it is about to change, once. A model that changes nothing costs nothing.
"""

from __future__ import annotations

import random
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from initlint.runtime.containers import operands
from initlint.runtime.global_state import global_state, put_back

EAGER = 1 << 20  #: bytes up to which a buffer is copied at once: some kernels write running statistics unseen


@contextmanager
def snapshot(model: nn.Module, *values: object) -> Iterator[Snapshot]:
    """As `preserved`, for a body that calls `Snapshot.copy` before it writes memory."""
    kept = Snapshot()
    for module in nn.Module.modules(model):
        kept.keep_module(module)
    for value in values:
        kept.keep(value, 6)
    restore_global = global_state()
    try:
        with _eager():
            yield kept
    finally:
        put_back((kept.restore, restore_global))


def _eager() -> AbstractContextManager[Any]:
    """Compiled code runs as it is written: the compiler would trace into the dispatch modes."""
    if "torch._dynamo" in sys.modules:  # nothing is compiled without it, and importing it takes a second
        stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


# ---------------------------------------------------------------- values
@dataclass(slots=True)
class _Kept:
    """A tensor as it was: `alias` shares its memory and keeps its geometry."""

    tensor: torch.Tensor
    kind: type
    alias: torch.Tensor
    storage: int | None
    requires_grad: bool
    grad: torch.Tensor | None
    hooks: dict[Any, Any]
    version: int | None  # writes so far, by which autograd tells that a saved value is still the same


@dataclass(slots=True)
class Snapshot:
    """What to put back, in the order in which it was met."""

    tensors: dict[int, _Kept] = field(default_factory=dict)
    containers: list[tuple[Any, Any]] = field(default_factory=list)
    classes: list[tuple[nn.Module, type]] = field(default_factory=list)
    restores: list[Callable[[], object]] = field(default_factory=list)
    protected: dict[int, torch.UntypedStorage] = field(default_factory=dict)
    copies: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    modules: set[int] = field(default_factory=set)

    # -------------------------------------------------- before

    def keep_module(self, module: nn.Module) -> None:
        """Keep a module's class, attributes and tensors; its children are kept on their own."""
        if id(module) in self.modules:
            return
        self.modules.add(id(module))
        self.classes.append((module, type(module)))
        if isinstance(module, torch.jit.ScriptModule):
            self.restores.append(partial(setattr, module, "training", module.training))
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                self._keep_tensor(tensor)
        else:
            self.keep(vars(module), 5)
        for buffer in module.buffers(recurse=False):
            storage = _storage(buffer)
            if storage is not None and storage.nbytes() <= EAGER:
                self.copy(buffer)

    def keep(self, value: Any, depth: int) -> None:
        """Keep whatever can change in a nest of containers, objects and tensors."""
        if isinstance(value, torch.Tensor):
            self._keep_tensor(value)
            return
        if depth == 0 or value is None or isinstance(value, _FIXED) or id(value) in self.seen:
            return
        self.seen.add(id(value))
        if isinstance(value, dict):
            self.containers.append((value, list(dict.items(value))))
            for _, item in self.containers[-1][1]:
                self.keep(item, depth - 1)
        elif isinstance(value, (list, set, deque)) and type(value).__iter__ in _PLAIN_ORDER:
            self.containers.append((value, list(value)))
            for item in self.containers[-1][1]:
                self.keep(item, depth - 1)
        elif isinstance(value, (tuple, frozenset)):
            for item in value:
                self.keep(item, depth - 1)
        elif isinstance(value, nn.Module):
            for module in nn.Module.modules(value):
                self.keep_module(module)
        elif (restore := _generator_state(value)) is not None:
            self.restores.append(restore)
        elif isinstance(getattr(value, "__dict__", None), dict):
            self.keep(value.__dict__, depth - 1)

    def _keep_tensor(self, tensor: torch.Tensor) -> None:
        if id(tensor) in self.tensors:
            return
        alias = tensor.data
        storage = _storage(alias)
        hooks = getattr(tensor, "_backward_hooks", None)
        grad = tensor.grad if tensor.is_leaf else None
        self.tensors[id(tensor)] = _Kept(
            tensor,
            type(tensor),
            alias,
            None if storage is None else storage._cdata,
            tensor.requires_grad,
            grad,
            dict(hooks or {}),
            _version(tensor),
        )
        if storage is not None:
            self.protected[storage._cdata] = storage
        if grad is not None:
            self._keep_tensor(grad)

    # -------------------------------------------------- meanwhile

    def copy(self, tensor: torch.Tensor) -> None:
        """Copy the memory of a tensor that is about to be written, if it is to be restored."""
        storage = _storage(tensor)
        if storage is None or storage._cdata in self.copies or storage._cdata not in self.protected:
            return
        if storage.device.type != "meta":
            self.copies[storage._cdata] = (storage, storage.clone())  # type: ignore[no-untyped-call]

    # -------------------------------------------------- afterwards

    def restore(self) -> None:
        """Put everything back that differs; what cannot be put back keeps nothing else from it."""
        kept = tuple(self.tensors.values())
        with torch.no_grad():
            put_back(
                (
                    *(partial(_restore_memory, *copied) for copied in self.copies.values()),
                    *(
                        partial(setattr, m, "__class__", kind)
                        for m, kind in self.classes
                        if type(m) is not kind
                    ),
                    *(partial(_refill, container, items) for container, items in self.containers),
                    *(partial(_restore_tensor, one) for one in kept),
                    *(partial(_restore_gradient, one) for one in kept),  # its dtype is its parameter's by now
                    *self.restores,
                    *(partial(_restore_version, one) for one in kept),  # everything above counts as a write
                )
            )


#: Values in which nothing can change, or that belong to nobody.
_PLAIN_ORDER = (list.__iter__, set.__iter__, deque.__iter__)  #: others may do or raise anything
_FIXED = (bool, int, float, complex, str, bytes, type, ModuleType, torch.dtype, torch.device, torch.Size)


def _version(tensor: torch.Tensor) -> int | None:
    try:
        return tensor._version
    except (NotImplementedError, RuntimeError):  # inference tensors count no writes
        return None


def _restore_version(kept: _Kept) -> None:
    if kept.version is not None and _version(kept.tensor) not in (None, kept.version):
        torch._C._autograd._unsafe_set_version_counter((kept.tensor,), (kept.version,))


def _restore_memory(storage: torch.UntypedStorage, values: torch.UntypedStorage) -> None:
    if storage.nbytes() != values.nbytes():
        storage.resize_(values.nbytes())
    storage.copy_(values)


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError, ValueError):  # sparse, opaque and lazy tensors have none
        return None


def _refill(container: Any, items: list[Any]) -> None:
    """Give a dict, list, set or deque its former items, if it has others now."""
    if isinstance(container, dict):
        now = list(dict.items(container))
        if len(now) != len(items) or any(
            a is not c or b is not d for (a, b), (c, d) in zip(now, items, strict=True)
        ):
            kind = OrderedDict if isinstance(container, OrderedDict) else dict
            kind.clear(container)
            for key, value in items:
                kind.__setitem__(container, key, value)
        return
    now = list(container)
    if len(now) == len(items) and all(a is b for a, b in zip(now, items, strict=True)):
        return
    container.clear()
    if isinstance(container, set):
        container.update(items)
    else:
        container.extend(items)


def _restore_tensor(kept: _Kept) -> None:
    tensor = kept.tensor
    storage = _storage(tensor.data)
    moved = storage is None or storage._cdata != kept.storage or not _same_geometry(tensor, kept.alias)
    if moved and kept.storage is not None:
        tensor.data = kept.alias
    if type(tensor) is not kept.kind:
        tensor.__class__ = kept.kind
    if tensor.requires_grad != kept.requires_grad and tensor.is_leaf:
        tensor.requires_grad_(kept.requires_grad)
    hooks = getattr(tensor, "_backward_hooks", None)
    if hooks is not None:
        _refill(hooks, list(kept.hooks.items()))


def _restore_gradient(kept: _Kept) -> None:
    if kept.tensor.is_leaf and kept.tensor.grad is not kept.grad:
        kept.tensor.grad = kept.grad


def _same_geometry(tensor: torch.Tensor, alias: torch.Tensor) -> bool:
    return (
        tensor.dtype == alias.dtype
        and tensor.data.shape == alias.shape
        and tensor.data.stride() == alias.stride()
        and tensor.data.storage_offset() == alias.storage_offset()
    )


#: By id of an operator (they live for ever): positions and names of the arguments that it writes.
_WRITES: dict[int, tuple[tuple[int, ...], tuple[str, ...]]] = {}


def _writes(func: Any) -> tuple[tuple[int, ...], tuple[str, ...]]:
    schema = getattr(func, "_schema", None)
    arguments = enumerate(schema.arguments if schema is not None else ())
    found = [(p, a.name) for p, a in arguments if a.alias_info is not None and a.alias_info.is_write]
    return tuple(position for position, _ in found), tuple(name for _, name in found)


def written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[torch.Tensor]:
    """The tensors among the arguments that `func` writes in place."""
    signature = _WRITES.get(id(func))
    if signature is None:
        signature = _WRITES[id(func)] = _writes(func)
    positions, names = signature
    if not positions:
        return ()
    values = [args[p] for p in positions if p < len(args)]
    values += [kwargs[name] for name in names if name in kwargs]
    return [*operands(values, torch.Tensor)]


class CopyOnWrite(TorchDispatchMode):
    """Copies memory right before an operator writes it."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # See trace.Recorder.
        return False

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._snapshot = snapshot

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in written(func, args, kwargs):
            self._snapshot.copy(tensor)
        return func(*args, **kwargs)


# ---------------------------------------------------------------- generators and flags
def _generator_state(value: Any) -> Callable[[], object] | None:
    """How to put a random generator back to its present state; None for anything else."""
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: value.set_state(state)
    if isinstance(value, random.Random):
        python = value.getstate()
        return lambda: value.setstate(python)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.random.Generator):
        bits = value.bit_generator.state
        return lambda: setattr(value.bit_generator, "state", bits)
    if numpy is not None and isinstance(value, numpy.random.RandomState):
        legacy = value.get_state()
        return lambda: value.set_state(legacy)
    return None
