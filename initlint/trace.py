"""The model as a torch.fx.Graph of ATen operators, recorded from one real run.

Below autograd every operator passes `Recorder`, whoever called it: modules, functions, scripted code,
custom autograd Functions, checkpointed blocks. Tensors are told apart by memory (storage, offset, sizes,
strides), not by Python object, so that views, `.data` and in-place writes keep their meaning:

- a view that changes nothing (detach, alias) adds no node;
- after an in-place write the written view stands for the operator that wrote it; another view of the same
  memory read later becomes `aten.view`/`aten.as_strided` of it, or `aten.as_strided_scatter` where only a
  part was written.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any, Literal, Protocol

import torch
from torch import fx, nn
from torch.nn.modules import module as module_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from initlint.finding import Site

aten = torch.ops.aten
Geometry = tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype]  # offset, sizes, strides, dtype

UNREGISTERED = "<unregistered>"


@dataclass(frozen=True, slots=True)
class Trace:
    """The graph, how it was obtained, and why there is none or only a part of it."""

    graph: fx.Graph | None
    kind: Literal["recorded", "symbolic", "none"]
    reason: str = ""


@dataclass(slots=True, eq=False)
class Leaf:
    """A tensor that the run read although it is no parameter, buffer or input of the model.

    `created` tells a parameter constructed during the run from one that was there before; `literal`
    is the constant of a `torch.tensor(…)` call.
    """

    tensor: torch.Tensor
    node: fx.Node
    site: Site | None
    created: bool = False
    literal: bool = False


class Watch(Protocol):
    """Looks at the operands before, and at the results after, each recorded operator."""

    def before(self, func: Any, args: Sequence[Any], nodes: Sequence[Any]) -> None:
        """`nodes` are the graph's view of `args`."""

    def after(self, node: fx.Node, func: Any, args: Sequence[Any], output: Any) -> None:
        """`output` is what `func` returned."""


# ---------------------------------------------------------------- source lines

_TORCH = str(Path(torch.__file__).parent) + "/"
_OWN = str(Path(__file__).parent) + "/"


@lru_cache(maxsize=4096)
def _foreign(code: CodeType) -> bool:
    """The code belongs to torch, to initlint, or to no file."""
    file = code.co_filename
    return file.startswith((_TORCH, _OWN, "<"))


@lru_cache(maxsize=4096)
def _site(code: CodeType, line: int) -> Site:
    return Site(code.co_filename, line, code.co_qualname, package(code.co_filename))


@lru_cache(maxsize=1024)
def package(file: str) -> str | None:
    """The installed package that a source file belongs to, None for the user's own."""
    for folder in ("site-packages", "dist-packages"):
        _, found, rest = file.rpartition(f"/{folder}/")
        if found:
            return rest.partition("/")[0].removesuffix(".py")
    return None


def user_line() -> Site | None:
    """The innermost line outside torch that is being run."""
    frame = sys._getframe(1)
    while frame is not None and _foreign(frame.f_code):
        frame = frame.f_back  # type: ignore[assignment]
    return None if frame is None else _site(frame.f_code, frame.f_lineno)


# ---------------------------------------------------------------- tensors in any nesting


def tensors(value: object, depth: int = 8) -> Iterator[torch.Tensor]:
    """Tensors in a nest of tuples, lists, sets, mappings, dataclasses and plain objects."""
    seen: set[int] = set()

    def walk(item: object, depth: int) -> Iterator[torch.Tensor]:
        if isinstance(item, torch.Tensor):
            if id(item) not in seen:
                seen.add(id(item))
                yield item
            return
        if item is None or isinstance(item, (str, bytes, int, float, complex, torch.dtype, torch.device, type)):
            return
        if depth == 0 or id(item) in seen or callable(item):
            return
        seen.add(id(item))
        for part in _parts(item):
            yield from walk(part, depth - 1)

    yield from walk(value, depth)


def _parts(item: object) -> Iterator[object]:
    if isinstance(item, Mapping):
        yield from item.values()
    elif isinstance(item, (list, tuple, set, frozenset)):
        yield from item
    elif is_dataclass(item):
        yield from (getattr(item, field.name, None) for field in fields(item))
    else:
        yield from getattr(item, "__dict__", {}).values()


# ---------------------------------------------------------------- operators


@dataclass(frozen=True, slots=True)
class _Signature:
    """Which arguments an operator writes."""

    positions: tuple[int, ...]
    keywords: tuple[str, ...]


@lru_cache(maxsize=4096)
def _signature(func: Any) -> _Signature:
    schema = getattr(func, "_schema", None)
    arguments = schema.arguments if schema is not None else ()
    written = [
        (position, argument.name)
        for position, argument in enumerate(arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return _Signature(tuple(p for p, _ in written), tuple(n for _, n in written))


def written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors among the arguments that `func` writes in place."""
    signature = _signature(func)
    if not signature.positions:
        return []
    values = [args[p] for p in signature.positions if p < len(args)]
    values += [kwargs[name] for name in signature.keywords if name in kwargs]
    flat = [t for value in values for t in (value if isinstance(value, (list, tuple)) else (value,))]
    return [t for t in flat if isinstance(t, torch.Tensor)]


def _geometry(tensor: torch.Tensor) -> Geometry:
    return tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _extent(geometry: Geometry) -> tuple[int, int]:
    """First and one past the last element of the storage that a view reaches."""
    offset, sizes, strides, _ = geometry
    if 0 in sizes:
        return offset, offset
    return offset, offset + 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))


def _dense(geometry: Geometry) -> bool:
    """The view reaches every element of its extent exactly once."""
    first, last = _extent(geometry)
    count = 1
    for n in geometry[1]:
        count *= n
    return count == last - first


def _contiguous(geometry: Geometry) -> bool:
    step = 1
    for n, stride in zip(reversed(geometry[1]), reversed(geometry[2]), strict=True):
        if n != 1 and stride != step:
            return False
        step *= n
    return True


class _Memory:
    """One storage: the node that stands for each view of it, and the writes so far in order.

    Holds a weak reference so that the address is not given to another storage meanwhile.
    """

    __slots__ = ("_weak", "nodes", "writes")

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._weak = storage._weak_ref()
        # geometry -> (node, or (name) still to be made a get_attr, or (node, index) for a getitem; writes seen)
        self.nodes: dict[Geometry, tuple[Any, int]] = {}
        self.writes: list[tuple[fx.Node, Geometry]] = []

    def __del__(self) -> None:
        torch.UntypedStorage._free_weak_ref(self._weak)


# ---------------------------------------------------------------- the recorder


class Recorder(TorchDispatchMode):
    """Records one forward; use as a context manager around `begin`, the call, and `finish`.

        with Recorder(model) as recorder:
            recorder.begin(args, kwargs)
            recorder.finish(model(*args, **kwargs))
        recorder.trace("recorded")
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Wrapping the handler against dynamo imports a thousand modules at the first operator.
        return False

    def __init__(self, model: nn.Module, watch: Watch | None = None) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.leaves: list[Leaf] = []
        self.calls: dict[str, int] = {}
        self._watch = watch
        self._memories: dict[int, _Memory] = {}
        self._opaque: dict[int, tuple[torch.Tensor, Any]] = {}  # tensors without a storage, kept alive
        self._names: dict[int, str] = {}
        self._named: dict[str, torch.Tensor] = {}
        self._literal = False
        self._foreign: dict[int, Leaf] = {}
        self._inputs: set[int] = set()
        self._outputs: dict[fx.Node, torch.Tensor] = {}
        self._paths = {id(module): path for path, module in nn.Module.named_modules(model)}
        self._stack: list[tuple[int, str]] = [(0, "")]
        self._hooks: list[Any] = []
        named = (*nn.Module.named_parameters(model), *nn.Module.named_buffers(model))
        for name, tensor in named:
            self._names.setdefault(id(tensor), name)
            self._named.setdefault(name, tensor)
            if not isinstance(tensor, nn.parameter.UninitializedTensorMixin):
                self._enter_tensor(tensor, name, replace=False)

    # -------------------------------------------------- the run

    def __enter__(self) -> Recorder:
        self._hooks = [
            module_hooks.register_module_forward_pre_hook(self._module_starts),
            module_hooks.register_module_forward_hook(self._module_ends),
        ]
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for hook in self._hooks:
            hook.remove()

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Make the tensors among the arguments the graph's placeholders."""
        for position, value in enumerate(args):
            self._placeholders(f"arg{position}", value)
        for key, value in kwargs.items():
            self._placeholders(key, value)

    def _placeholders(self, name: str, value: object) -> None:
        for tensor in tensors(value):
            node = self.graph.create_node("placeholder", name, (), {}, name)
            self._describe(node, tensor, None)
            self._inputs.add(id(tensor))
            self._enter_tensor(tensor, node)

    def finish(self, output: object) -> list[tuple[fx.Node, torch.Tensor]]:
        """Close the graph; the nodes of all tensors in the output."""
        results = [(self.node(tensor), tensor) for tensor in tensors(output)]
        self.graph.create_node("output", "output", (tuple(node for node, _ in results),), {})
        return results

    def _module_starts(self, module: nn.Module, _: Any) -> None:
        path = self._paths.get(id(module))
        if path is not None:
            self.calls[path] = self.calls.get(path, 0) + 1
        self._stack.append((id(module), self._stack[-1][1] if path is None else path))

    def _module_ends(self, module: nn.Module, _: Any, __: Any) -> None:
        # A module left by an exception that the model caught has no end of its own.
        while len(self._stack) > 1 and self._stack.pop()[0] != id(module):
            pass

    # -------------------------------------------------- operators

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        writes = written(func, args, kwargs)
        self._literal = func is aten.lift_fresh.default
        nodes = tuple([self._argument(a) for a in args])
        node_kwargs = {key: self._argument(value) for key, value in kwargs.items()}
        if self._watch is not None:
            self._watch.before(func, args, nodes)
        output = func(*args, **kwargs)
        results = self._results(output)
        if not writes and all(self._known(tensor) for _, tensor in results):
            return output
        node = self.graph.create_node("call_function", func, nodes, node_kwargs)
        self._describe(node, output, user_line())
        for index, tensor in results:
            self._enter_tensor(tensor, node if index is None else (node, index))
        for tensor in writes:
            self._write(tensor, node)
        if self._watch is not None:
            self._watch.after(node, func, args, output)
        return output

    @staticmethod
    def _results(output: Any) -> list[tuple[int | None, torch.Tensor]]:
        if isinstance(output, torch.Tensor):
            return [(None, output)]
        if isinstance(output, (list, tuple)):
            return [(index, t) for index, t in enumerate(output) if isinstance(t, torch.Tensor)]
        return []

    def _describe(self, node: fx.Node, output: Any, site: Site | None) -> None:
        meta = node.meta
        if isinstance(output, torch.Tensor):
            meta["shape"] = tuple(output.shape)
            meta["dtype"] = output.dtype
        elif isinstance(output, (list, tuple)):
            meta["shape"] = tuple(tuple(t.shape) if isinstance(t, torch.Tensor) else None for t in output)
            meta["dtype"] = next((t.dtype for t in output if isinstance(t, torch.Tensor)), None)
        meta["module"] = self._stack[-1][1]
        meta["site"] = site

    def _argument(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.node(value)
        if isinstance(value, (list, tuple)):
            return [self._argument(item) for item in value]
        if isinstance(value, torch.Generator):
            return None
        return value

    # -------------------------------------------------- tensors and memory

    def _memory(self, tensor: torch.Tensor) -> _Memory | None:
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # sparse, opaque and lazy tensors have none
            return None
        memory = self._memories.get(storage._cdata)
        if memory is None:
            memory = self._memories[storage._cdata] = _Memory(storage)
        return memory

    def _enter_tensor(self, tensor: torch.Tensor, value: Any, *, replace: bool = True) -> None:
        memory = self._memory(tensor)
        if memory is None:
            self._opaque[id(tensor)] = (tensor, value)
            return
        geometry = _geometry(tensor)
        if replace or geometry not in memory.nodes:
            memory.nodes[geometry] = (value, len(memory.writes))

    def _write(self, tensor: torch.Tensor, node: fx.Node) -> None:
        memory = self._memory(tensor)
        if memory is None:
            self._opaque[id(tensor)] = (tensor, node)
            return
        geometry = _geometry(tensor)
        memory.writes.append((node, geometry))
        memory.nodes[geometry] = (node, len(memory.writes))

    def _known(self, tensor: torch.Tensor) -> bool:
        """The memory already has an up-to-date node for exactly this view: a detach or an alias."""
        memory = self._memory(tensor)
        if memory is None:
            return id(tensor) in self._opaque
        entry = memory.nodes.get(_geometry(tensor))
        return entry is not None and entry[1] == len(memory.writes)

    def node(self, tensor: torch.Tensor) -> fx.Node:
        """The node that stands for a tensor's present values."""
        if tensor.requires_grad and id(tensor) not in self._names and tensor.is_leaf:
            self._meet_leaf(tensor)
        memory = self._memory(tensor)
        if memory is None:
            return self._opaque_node(tensor)
        geometry = _geometry(tensor)
        entry = memory.nodes.get(geometry)
        if entry is None:
            entry = self._underived(tensor, memory, geometry)
        value, seen = entry
        current = len(memory.writes)
        if type(value) is fx.Node and seen == current:
            return value
        node = self._realised(value, tensor)
        for other, view in memory.writes[seen:]:
            node = self._overwritten(node, geometry, other, view)
        memory.nodes[geometry] = (node, current)
        return node

    def _realised(self, value: Any, tensor: torch.Tensor) -> fx.Node:
        if isinstance(value, fx.Node):
            return value
        if isinstance(value, str):
            node = self.graph.create_node("get_attr", value, (), {})
            self._describe(node, self._named[value], None)
            return node
        parent, index = value
        node = self.graph.create_node("call_function", operator.getitem, (parent, index), {})
        node.meta.update(
            shape=tuple(tensor.shape), dtype=tensor.dtype, module=parent.meta["module"], site=parent.meta["site"]
        )
        return node

    def _opaque_node(self, tensor: torch.Tensor) -> fx.Node:
        _, value = self._opaque.get(id(tensor), (None, None))
        if value is None:
            value = self._names.get(id(tensor)) or self._leaf(tensor)
        node = self._realised(value, tensor)
        self._opaque[id(tensor)] = (tensor, node)
        return node

    def _underived(self, tensor: torch.Tensor, memory: _Memory, geometry: Geometry) -> tuple[Any, int]:
        """A view nobody was seen to take: of a known tensor, else a tensor from outside the model."""
        first, last = _extent(geometry)
        for view, (value, seen) in memory.nodes.items():
            low, high = _extent(view)
            if low <= first and last <= high and view[3] == geometry[3]:
                base = self._realised(value, tensor)
                memory.nodes[view] = (base, seen)
                return self._restrided(base, view, geometry), seen
        return self._names.get(id(tensor)) or self._leaf(tensor), len(memory.writes)

    def _restrided(self, base: fx.Node, view: Geometry, geometry: Geometry) -> fx.Node:
        """`base`, which shows `view` of a storage, seen as another view of that storage."""
        offset, sizes, strides, dtype = geometry
        if _extent(view) == _extent(geometry) and _contiguous(view) and _contiguous(geometry):
            func, args = aten.view.default, (base, list(sizes))
        else:
            func, args = aten.as_strided.default, (base, list(sizes), list(strides), offset)
        return self._derived(func, args, sizes, dtype, base)

    def _overwritten(self, node: fx.Node, geometry: Geometry, other: fx.Node, view: Geometry) -> fx.Node:
        """`node`, which shows `geometry`, after `other` wrote `view` of the same storage."""
        if view == geometry:
            return other
        (low, high), (first, last) = _extent(geometry), _extent(view)
        if last <= low or high <= first:
            return node
        if _dense(view) and first <= low and high <= last:
            return self._restrided(other, view, geometry)
        offset, sizes, strides, _ = view
        args = (node, other, list(sizes), list(strides), offset)
        return self._derived(aten.as_strided_scatter.default, args, geometry[1], geometry[3], other)

    def _derived(self, func: Any, args: Any, sizes: tuple[int, ...], dtype: Any, like: fx.Node) -> fx.Node:
        node = self.graph.create_node("call_function", func, args, {})
        node.meta.update(shape=sizes, dtype=dtype, module=like.meta["module"], site=like.meta["site"])
        return node

    # -------------------------------------------------- tensors from outside

    def _leaf(self, tensor: torch.Tensor) -> fx.Node:
        """A node for a tensor that is neither parameter, buffer, input nor made by a recorded operator."""
        node = self.graph.create_node("get_attr", f"{UNREGISTERED}.{len(self.leaves)}", (), {}, "unregistered")
        leaf = Leaf(tensor, node, user_line(), literal=self._literal)
        self._describe(node, tensor, leaf.site)
        node.meta["tensor"] = {"requires_grad": tensor.requires_grad, "literal": leaf.literal}
        self.leaves.append(leaf)
        self._foreign[id(tensor)] = leaf
        return node

    def _meet_leaf(self, tensor: torch.Tensor) -> None:
        """Note a trainable leaf whose memory came from a recorded operator: a parameter made on the way."""
        if id(tensor) in self._inputs or id(tensor) in self._foreign or not isinstance(tensor, nn.Parameter):
            return
        memory = self._memory(tensor)
        entry = memory.nodes.get(_geometry(tensor)) if memory is not None else None
        if entry is not None and isinstance(entry[0], fx.Node):
            leaf = Leaf(tensor, entry[0], user_line(), created=True)
            self.leaves.append(leaf)
            self._foreign[id(tensor)] = leaf
