"""The model as a torch.fx.Graph of ATen operators, recorded from one real run.

Below autograd every operator passes `GraphRecorder`, whoever called it: modules, functions, scripted code,
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import fx, nn
from torch.nn.modules import module as module_hooks
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from initlint.graph.symbolic import lower
from initlint.runtime import contiguous, dense, extent, leaves, preserved, written
from initlint.source import here, in_forward

if TYPE_CHECKING:
    from initlint.finding import Site


aten = torch.ops.aten
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


@dataclass(slots=True, eq=False)
class Made:
    """A parameter that was registered during the run."""

    tensor: torch.Tensor
    module: nn.Module
    module_path: str | None  # None: the module itself is not part of the model
    name: str
    owner: str  # path of the module that was running
    site: Site | None
    caller: Site | None = None  # the line of a forward method that led there


class Watch(Protocol):
    """Looks at the operands before, and at the results after, each recorded operator."""

    def before(self, func: Any, args: Sequence[Any], nodes: Sequence[Any]) -> None:
        """`nodes` are the graph's view of `args`."""

    def after(self, node: fx.Node, func: Any, args: Sequence[Any], output: Any) -> None:
        """`output` is what `func` returned."""


def symbolic(model: nn.Module) -> Trace:
    """The static view: what torch.fx.symbolic_trace sees, in the vocabulary of a recorded graph.

    Shapes of activations are not known and have no entry in `meta`.
    """
    try:
        with preserved(model), torch.no_grad():
            return Trace(lower(fx.symbolic_trace(model), model), "symbolic")
    except Exception as error:
        reason = " ".join(str(error).split())
        return Trace(None, "none", f"symbolic tracing failed: {type(error).__name__}: {reason}")


# ---------------------------------------------------------------- operators
def ancestors(node: fx.Node) -> set[fx.Node]:
    """All nodes that a node is computed from."""
    found: set[fx.Node] = set()
    stack = [node]
    while stack:
        for source in stack.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                stack.append(source)
    return found


@lru_cache(maxsize=4096)
def _name(func: Any) -> str:
    """What a node is called: "convolution", "relu_"."""
    return str(func.__name__).partition(".")[0]


def _shape(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """None for a tensor that has no sizes yet, or none along one of its axes."""
    return None if tensor.is_nested or is_lazy(tensor) else tuple(tensor.shape)


# ---------------------------------------------------------------- memory
Geometry = tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype]  # offset, sizes, strides, dtype


class Memory:
    """One storage: the node that stands for each view of it, and the writes so far in order.

    Holds a weak reference so that the address is not given to another storage meanwhile.
    """

    __slots__ = ("_weak", "nodes", "writes")

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._weak = storage._weak_ref()
        # What stands for a view, and how many of the writes it has seen: a node, the name of a tensor
        # that has no get_attr yet, or (node, index, dtype) of an output that has no getitem yet.
        self.nodes: dict[Geometry, tuple[Any, int]] = {}
        self.writes: list[tuple[fx.Node, Geometry]] = []

    def __del__(self) -> None:
        torch.UntypedStorage._free_weak_ref(self._weak)  # type: ignore[no-untyped-call]


# ---------------------------------------------------------------- the recorder
class GraphRecorder(TorchDispatchMode):
    """Records one forward: a context manager around `begin`, the call, and `finish`.

    `protect` is called with each tensor of the arguments that an operator is about to write.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Wrapping the handler against dynamo imports a thousand modules at the first operator.
        return False

    def __init__(
        self,
        model: nn.Module,
        watch: Watch | None = None,
        protect: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.leaves: list[Leaf] = []
        self.calls: dict[str, int] = {}
        self.made: dict[int, Made] = {}
        self._watch = watch
        self._protect = protect
        self._memories: dict[int, Memory] = {}
        self._opaque: dict[int, tuple[torch.Tensor, Any]] = {}  # tensors without a storage, kept alive
        self._names: dict[int, str] = {}
        self._named: dict[str, torch.Tensor] = {}
        self._stored: dict[str, fx.Node] = {}
        self._literal = self._finished = False
        self._foreign: dict[int, Leaf] = {}
        self._inputs: set[int] = set()
        self._paths: dict[int, str] = {}
        self._stack: list[tuple[int, str]] = [(0, "")]
        self._hooks: list[Any] = []
        for path, module in nn.Module.named_modules(model):
            self._paths[id(module)] = path
            prefix = f"{path}." if path else ""
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None and id(tensor) not in self._names:
                    self._register(prefix + name, tensor)

    def _register(self, name: str, tensor: torch.Tensor) -> None:
        self._names[id(tensor)] = name
        self._named[name] = tensor
        memory, geometry = self._locate(tensor)
        if memory is not None:
            memory.nodes.setdefault(geometry, (name, 0))

    # -------------------------------------------------- the run

    def __enter__(self) -> GraphRecorder:
        self._hooks = [
            module_hooks.register_module_forward_pre_hook(self._module_starts),
            module_hooks.register_module_forward_hook(self._module_ends),
            module_hooks.register_module_parameter_registration_hook(self._note_registration),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        if not self._finished:
            self.finish(())
        for hook in self._hooks:
            hook.remove()

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[fx.Node, torch.Tensor]]:
        """Make the tensors among the arguments the graph's placeholders."""
        named = [(f"arg{position}", value) for position, value in enumerate(args)] + [*kwargs.items()]
        return [(self._placeholder(name, t), t) for name, value in named for t in leaves(value)]

    def _placeholder(self, name: str, tensor: torch.Tensor) -> fx.Node:
        node = self.graph.create_node("placeholder", name, (), {}, name)
        self._describe(node, tensor, None)
        self._inputs.add(id(tensor))
        self._remember(tensor, *self._locate(tensor), node)
        return node

    def finish(self, output: object) -> list[tuple[fx.Node, torch.Tensor]]:
        """Close the graph; the nodes of all tensors in the output. What was left open is closed on exit."""
        self._finished = True
        results = [(self.node(tensor), tensor) for tensor in leaves(output)]
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

    def _note_registration(self, module: nn.Module, name: str, parameter: Any) -> None:
        if isinstance(parameter, nn.Parameter) and id(parameter) not in self._names:
            path, owner, frame = self._paths.get(id(module)), self._stack[-1][1], sys._getframe()
            line, caller = here(frame), in_forward(frame)
            self.made[id(parameter)] = Made(parameter, module, path, name, owner, line, caller)

    # -------------------------------------------------- operators

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        writes = written(func, args, kwargs)
        if self._protect is not None:
            for tensor in writes:
                self._protect(tensor)
        self._literal = func is aten.lift_fresh.default
        nodes = tuple([self._argument(value) for value in args])
        node_kwargs = {key: self._argument(value) for key, value in kwargs.items()}
        if self._watch is not None:
            self._watch.before(func, args, nodes)
        output = func(*args, **kwargs)
        places = [(index, tensor, *self._locate(tensor)) for index, tensor in self._results(output)]
        if not writes and all(self._is_current(t, memory, view) for _, t, memory, view in places):
            return output
        node = self._create_call(func, nodes, node_kwargs)
        self._describe(node, output, here(sys._getframe()))
        for index, tensor, memory, geometry in places:
            self._remember(tensor, memory, geometry, node if index is None else (node, index, geometry[3]))
        for tensor in writes:
            self._write(tensor, node)
        if self._watch is not None:
            self._watch.after(node, func, args, output)
        return output

    def _create_call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        # Arguments are set afterwards: create_node searches them for symbolic numbers, which is slow.
        node = self.graph.create_node("call_function", func, None, None, _name(func))
        node.args = args
        if kwargs:
            node.kwargs = kwargs
        return node

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
            if (shape := _shape(output)) is not None:
                meta["shape"] = shape
            meta["dtype"] = output.dtype
        elif isinstance(output, (list, tuple)):
            meta["shape"] = tuple([_shape(t) if isinstance(t, torch.Tensor) else None for t in output])
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

    def _locate(self, tensor: torch.Tensor) -> tuple[Memory | None, Geometry]:
        """The memory of a tensor, and which view of it the tensor is."""
        if tensor.is_nested:
            return None, (0, (), (), tensor.dtype)
        try:
            storage = tensor.untyped_storage()
            geometry = (int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        except (NotImplementedError, RuntimeError, ValueError):  # sparse, opaque, lazy: they have none
            return None, (0, (), (), tensor.dtype)
        memory = self._memories.get(storage._cdata)
        if memory is None:
            memory = self._memories[storage._cdata] = Memory(storage)
        return memory, geometry

    def _remember(self, tensor: torch.Tensor, memory: Memory | None, geometry: Geometry, value: Any) -> None:
        if memory is None:
            self._opaque[id(tensor)] = (tensor, value)
        else:
            memory.nodes[geometry] = (value, len(memory.writes))

    def _write(self, tensor: torch.Tensor, node: fx.Node) -> None:
        memory, geometry = self._locate(tensor)
        if memory is not None:
            memory.writes.append((node, geometry))
        self._remember(tensor, memory, geometry, node)

    def _is_current(self, tensor: torch.Tensor, memory: Memory | None, geometry: Geometry) -> bool:
        """There already is an up-to-date node for exactly this view: a detach or an alias."""
        if memory is None:
            return id(tensor) in self._opaque
        entry = memory.nodes.get(geometry)
        return entry is not None and entry[1] == len(memory.writes)

    def node(self, tensor: torch.Tensor) -> fx.Node:
        """The node that stands for a tensor's present values."""
        if tensor.requires_grad and id(tensor) not in self._names and tensor.is_leaf:
            self._meet_leaf(tensor)
        memory, geometry = self._locate(tensor)
        if memory is None:
            return self._opaque_node(tensor)
        entry = memory.nodes.get(geometry)
        if entry is None:
            entry = self._untracked_view(tensor, memory, geometry)
        value, seen = entry
        current = len(memory.writes)
        if type(value) is fx.Node and seen == current:
            return value
        node = self._materialise(value)
        for other, view in memory.writes[seen:]:
            node = self._create_write(node, geometry, other, view)
        memory.nodes[geometry] = (node, current)
        return node

    def _materialise(self, value: Any) -> fx.Node:
        if isinstance(value, fx.Node):
            return value
        if isinstance(value, str):
            node = self._stored.get(value) or self.graph.create_node("get_attr", value, (), {})
            self._describe(node, self._named[value], None)
            self._stored[value] = node
            return node
        parent, index, dtype = value
        node = self._create_call(operator.getitem, (parent, index), {})
        node.meta.update(parent.meta, shape=parent.meta["shape"][index], dtype=dtype)
        return node

    def _opaque_node(self, tensor: torch.Tensor) -> fx.Node:
        _, value = self._opaque.get(id(tensor), (None, None))
        if value is None:
            value = self._names.get(id(tensor)) or self._leaf(tensor)
        node = self._materialise(value)
        self._opaque[id(tensor)] = (tensor, node)
        return node

    def _untracked_view(self, tensor: torch.Tensor, memory: Memory, geometry: Geometry) -> tuple[Any, int]:
        """A view nobody was seen to take: of a known tensor, else a tensor from outside the model."""
        first, last = extent(*geometry[:3])
        for view, (value, seen) in memory.nodes.items():
            low, high = extent(*view[:3])
            if low <= first and last <= high and view[3] == geometry[3]:
                base = self._materialise(value)
                memory.nodes[view] = (base, seen)
                return self._create_view(base, view, geometry), seen
        return self._names.get(id(tensor)) or self._leaf(tensor), len(memory.writes)

    def _create_view(self, base: fx.Node, view: Geometry, geometry: Geometry) -> fx.Node:
        """`base`, which shows `view` of a storage, seen as another view of that storage."""
        offset, sizes, strides, dtype = geometry
        same = extent(*view[:3]) == extent(*geometry[:3])
        if same and contiguous(*view[1:3]) and contiguous(sizes, strides):
            return self._create_like(aten.view.default, (base, list(sizes)), sizes, dtype, base)
        args = (base, list(sizes), list(strides), offset)
        return self._create_like(aten.as_strided.default, args, sizes, dtype, base)

    def _create_write(self, node: fx.Node, geometry: Geometry, other: fx.Node, view: Geometry) -> fx.Node:
        """`node`, which shows `geometry`, after `other` wrote `view` of the same storage."""
        if view == geometry:
            return other
        (low, high), (first, last) = extent(*geometry[:3]), extent(*view[:3])
        if last <= low or high <= first:
            return node
        if dense(*view[:3]) and first <= low and high <= last:
            return self._create_view(other, view, geometry)
        offset, sizes, strides, _ = view
        args = (node, other, list(sizes), list(strides), offset)
        return self._create_like(aten.as_strided_scatter.default, args, geometry[1], geometry[3], other)

    def _create_like(
        self, func: Any, args: Any, sizes: tuple[int, ...], dtype: Any, like: fx.Node
    ) -> fx.Node:
        node = self._create_call(func, args, {})
        node.meta.update(like.meta, shape=sizes, dtype=dtype)
        return node

    # -------------------------------------------------- tensors from outside

    def _leaf(self, tensor: torch.Tensor) -> fx.Node:
        """A node for a tensor that is neither parameter, buffer, input nor made by a recorded operator."""
        target = f"{UNREGISTERED}.{len(self.leaves)}"
        node = self.graph.create_node("get_attr", target, (), {}, "unregistered")
        leaf = Leaf(tensor, node, here(sys._getframe()), literal=self._literal)
        self._describe(node, tensor, leaf.site)
        node.meta["tensor"] = {"requires_grad": tensor.requires_grad, "literal": leaf.literal}
        self.leaves.append(leaf)
        self._foreign[id(tensor)] = leaf
        return node

    def _meet_leaf(self, tensor: torch.Tensor) -> None:
        """Note a trainable leaf whose memory came from a recorded operator: a parameter made on the way."""
        if id(tensor) in self._inputs or id(tensor) in self._foreign or not isinstance(tensor, nn.Parameter):
            return
        memory, geometry = self._locate(tensor)
        entry = memory.nodes.get(geometry) if memory is not None else None
        if entry is not None and isinstance(entry[0], fx.Node):
            leaf = Leaf(tensor, entry[0], here(sys._getframe()), created=True)
            self.leaves.append(leaf)
            self._foreign[id(tensor)] = leaf
