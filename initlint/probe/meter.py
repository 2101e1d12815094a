"""Reads what flows through a recorded run: each interesting output, and the gradient that comes back."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import isnan
from typing import Any

import torch
from torch import fx

from initlint.evidence import Scale, Shape, SignalKind
from initlint.graph import ancestors, aten
from initlint.probe.reductions import Figures, figures, peaked_rows, plain, readable, saturated, scale

#: Operators that put infinities in place on purpose.
_MASKING = frozenset(
    {"aten.masked_fill", "aten.where", "aten.fill", "aten.full_like", "aten.triu", "aten.tril"}
)
#: Operators whose results are other tensors' values, or not written yet.
_VALUELESS = aten.RESHAPES | frozenset({"aten.empty_like", "aten.new_empty", "aten.new_empty_strided"})
#: What is computed without an input, of positions say, is no signal.
_FLOWING = frozenset({"add", "activation", "softmax"})
_CHANNELS_FIRST = aten.CONVOLUTIONS | {
    name for name in aten.NORMS if "layer_norm" not in name and "rms_norm" not in name
}


@dataclass(slots=True, eq=False)
class Reading:
    """One operator's output, and the gradient that flowed into it."""

    node: fx.Node
    operation: str
    kind: SignalKind
    shape: Shape
    figures: Figures
    saturated: float = 0.0
    operands: tuple[float, float] | None = None  # rms of the two tensors that an addition adds
    input_rms: float | None = None  # rms of the data that a weight is multiplied with
    weights: tuple[str, ...] = ()
    backward: Scale | None = None


class Meter:
    """Watches a Recorder. `readings` are in order of execution; `batch` is the number of inputs."""

    def __init__(self, batch: int | None) -> None:
        self.readings: dict[str, Reading] = {}
        self.deaf = False  # gradients that arrive now are not read
        self._batch = batch
        self._given = False  # there are inputs
        self._axes: dict[fx.Node, int] = {}
        self._depends: dict[fx.Node, bool] = {}
        self._sums: dict[fx.Node, tuple[float, float] | None] = {}
        self._operands: tuple[float, float] | None = None
        self._factor: float | None = None
        self._waiting: list[tuple[torch.Tensor, Reading]] = []
        self._late: list[tuple[weakref.ref[torch.Tensor], int, Reading]] = []
        self._handles: list[Any] = []
        self._suspect: tuple[fx.Node, str, Scale] | None = None
        self._blamed = False

    # -------------------------------------------------- forward

    def inputs(self, given: Iterable[tuple[fx.Node, torch.Tensor]]) -> None:
        """Read the floating inputs."""
        for node, tensor in given:
            self._given = self._depends[node] = True
            if readable(tensor):
                axis = 1 if tensor.dim() > 3 else max(tensor.dim() - 1, 0)
                self._axes[node] = axis
                with unseen():
                    found = figures(tensor, axis if tensor.dim() > 1 else None, self._batch)
                self._enter(node, "input", "input", tensor, found)

    def before(self, func: Any, args: Sequence[Any], nodes: Sequence[Any]) -> None:
        """Set the hooks of the last outputs, which have their grad_fn by now; read what is overwritten."""
        if self._waiting or self._late:
            self._listen()
        self._operands = self._factor = None
        operation = _operation(func)
        if operation in aten.CONTRACTIONS:
            with unseen():
                self._factor = self._data_rms(operation, args, nodes)
        elif operation in aten.ADDITIONS and self._is_sum(args):
            with unseen():
                self._operands = self._rms(nodes[0], args[0]), self._rms(nodes[1], args[1])

    def after(self, node: fx.Node, func: Any, args: Sequence[Any], output: Any) -> None:
        """Read an output if it is of interest."""
        first = output[0] if isinstance(output, (list, tuple)) and output else output
        if not isinstance(first, torch.Tensor) or first.is_nested:
            return
        if not (first.is_floating_point() or first.is_complex()):
            return
        operation = _operation(func)
        axis = self._axes[node] = self._unit_axis(node, operation, tuple(first.shape))
        kind = self._kind(node, operation, args, first)
        if kind is None or not readable(first):
            self._suspicious(node, operation, first)
            return
        with unseen():
            rectified = aten.ACTIVATIONS.get(operation) in aten.RECTIFYING
            batch = self._batch if self._dependent(node) else None
            units = axis if first.dim() > 1 else None
            found = figures(first, units, batch, masks=kind == "add", rectified=rectified)
            reading = self._enter(node, operation, kind, first, found)
            reading.saturated = _saturated(operation, func, args, first)
        reading.operands, reading.input_rms = self._operands, self._factor
        if (
            first.requires_grad
            or not torch.is_grad_enabled()
            or any(isinstance(a, torch.Tensor) and a.requires_grad for a in _flat(args))
        ):
            self._waiting.append((first, reading))

    def _enter(
        self, node: fx.Node, operation: str, kind: SignalKind, tensor: torch.Tensor, found: Figures
    ) -> Reading:
        if found.scale.nans or found.scale.infs:
            self._accuse(node)
        reading = Reading(node, operation, kind, tuple(tensor.shape), found)
        self.readings[node.name] = reading
        return reading

    def _kind(
        self, node: fx.Node, operation: str, args: Sequence[Any], output: torch.Tensor
    ) -> SignalKind | None:
        """What a reading is of; None for what is not read."""
        kind = aten.signal_kind(operation)
        if kind == "add" and not (self._is_sum(args) and output.dim() > 1):
            return None
        if kind == "other" or (kind in _FLOWING and self._given and not self._dependent(node)):
            return None
        if kind == "weight" and operation in aten.PRODUCTS:
            factors = [node.args[i] for i in aten.PRODUCTS[operation]]
            if all(isinstance(f, fx.Node) and self._dependent(f) for f in factors):
                return "other"
        return kind  # type: ignore[return-value]

    @staticmethod
    def _is_sum(args: Sequence[Any]) -> bool:
        """Two tensors of more than one axis are added: no bias, no scalar."""
        return len(args) > 1 and all(
            isinstance(a, torch.Tensor) and a.dim() > 1 and readable(a) for a in args[:2]
        )

    def _data_rms(self, operation: str, args: Sequence[Any], nodes: Sequence[Any]) -> float | None:
        """Rms of the one factor of a product that is data; None where both or none are."""
        places = [p for p in aten.PRODUCTS.get(operation, (0, 1)) if p < len(nodes)]
        data = [p for p in places if self._dependent(nodes[p]) and readable(args[p])]
        return self._rms(nodes[data[0]], args[data[0]]) if len(data) == 1 else None

    def _rms(self, node: Any, tensor: torch.Tensor) -> float:
        source = _source(node)
        reading = self.readings.get(source.name)
        if reading is not None and reading.shape == tuple(tensor.shape):
            return reading.figures.scale.rms
        return scale(tensor).rms

    # -------------------------------------------------- what is first not finite

    def _suspicious(self, node: fx.Node, operation: str, output: torch.Tensor) -> None:
        """Remember the first NaN or +inf between two readings; -inf is how masks are written."""
        if self._suspect is not None or self._blamed or operation in _MASKING:
            return
        if operation in _VALUELESS or not readable(output) or not node.all_input_nodes:
            return
        with unseen():
            largest = float(plain(output.detach()).amax())
            if isnan(largest) or largest == float("inf"):
                self._suspect = node, operation, scale(output)

    def _accuse(self, node: fx.Node) -> None:
        """Give the operator behind the first reading that is not finite a reading of its own."""
        if self._blamed:
            return
        self._blamed = True
        if self._suspect is None:
            return
        suspect, operation, found = self._suspect
        if suspect in ancestors(node):
            shape = _shape(suspect)
            self.readings[suspect.name] = Reading(suspect, operation, "other", shape, Figures(found))

    # -------------------------------------------------- axes and dependence

    def _unit_axis(self, node: fx.Node, operation: str, shape: Shape) -> int:
        """The axis of channels or features: 1 behind a convolution, carried along, else the last."""
        last = max(len(shape) - 1, 0)
        if operation in _CHANNELS_FIRST:
            return min(1, last)
        if operation in aten.NORMS or operation in aten.LINEAR:
            return last
        if operation in aten.PRODUCTS:
            left, right = (node.args[i] for i in aten.PRODUCTS[operation])
            turned = isinstance(left, fx.Node) and not self._dependent(left) and self._dependent(right)
            return max(last - 1, 0) if turned else last
        known = [n for n in map(_source, node.all_input_nodes) if n in self._axes]
        source = next((n for n in known if _shape(n) == shape), known[0] if known else None)
        if source is None:
            return last
        axis, before = self._axes[source], _shape(source)
        if operation in aten.PERMUTATIONS:
            return _permuted(operation, node.args, axis, len(shape))
        if len(before) == len(shape) and axis < len(shape):
            return axis
        if axis == len(before) - 1 and shape and before[-1] == shape[-1]:
            return last
        return axis if axis < last and before[: axis + 1] == shape[: axis + 1] else last

    def _dependent(self, node: Any) -> bool:
        """The node's values depend on an input of the model."""
        if not isinstance(node, fx.Node):
            return False
        known = self._depends.get(node)
        if known is None:
            known = self._depends[node] = any(self._dependent(n) for n in node.all_input_nodes)
        return known

    def _weights(self, node: fx.Node) -> tuple[str, ...]:
        """Stored tensors that enter here, through operators that see nothing else."""
        found: dict[str, None] = {}
        stack = list(node.all_input_nodes)
        while stack:
            source = stack.pop(0)
            if source.op == "get_attr":
                found[str(source.target)] = None
            elif not self._dependent(source):
                stack += source.all_input_nodes
        return tuple(found)

    # -------------------------------------------------- backward

    def _listen(self) -> None:
        """Set hooks on outputs that have their grad_fn; inside a custom Function that takes until its end."""
        for late, version, reading in self._late:
            alive = late()
            if alive is not None and alive._version == version:
                self._waiting.append((alive, reading))
        self._late.clear()
        for tensor, reading in self._waiting:
            if tensor.requires_grad:
                hook = partial(self._arrived, reading)
                self._handles.append(tensor.register_hook(hook))  # type: ignore[no-untyped-call]
            elif not tensor.is_inference():
                self._late.append((weakref.ref(tensor), tensor._version, reading))
        self._waiting.clear()

    def _arrived(self, reading: Reading, gradient: torch.Tensor | None) -> None:
        # A custom Function may hand None on.
        if not self.deaf and gradient is not None and readable(gradient):
            with unseen():
                reading.backward = scale(gradient)

    def outputs(self, results: Iterable[tuple[fx.Node, torch.Tensor]]) -> None:
        """The forward is over: read the outputs that were not, and set the last hooks."""
        for node, tensor in results:
            if _source(node).name not in self.readings and readable(tensor) and node.op == "call_function":
                batch = self._batch if self._dependent(node) else None
                axis = self._axes.get(node, tensor.dim() - 1)
                found = figures(tensor, axis if 0 < axis < tensor.dim() else None, batch, masks=True)
                operation = _operation(_source(node).target)
                self._waiting.append((tensor, self._enter(node, operation, "output", tensor, found)))
        self._listen()

    def close(self) -> None:
        """Take the hooks away, and name the weights of each reading."""
        for handle in self._handles:
            handle.remove()
        self._waiting.clear()
        order = {node.name: position for position, node in enumerate(self._graph_nodes())}
        self.readings = dict(sorted(self.readings.items(), key=lambda item: order[item[0]]))
        for reading in self.readings.values():
            reading.weights = self._weights(reading.node)

    def _graph_nodes(self) -> Iterable[fx.Node]:
        return next(iter(self.readings.values())).node.graph.nodes if self.readings else ()


_OPERATIONS: dict[int, str] = {}  # by id of an operator: they live for ever


def _operation(func: Any) -> str:
    name = _OPERATIONS.get(id(func))
    if name is None:
        name = _OPERATIONS[id(func)] = aten.operation(func)
    return name


_NULL = nullcontext()


def unseen() -> AbstractContextManager[Any]:
    """Operators run here pass no dispatch mode, so that reading costs no bookkeeping."""
    guard = getattr(torch._C, "_DisableTorchDispatch", None)
    return _NULL if guard is None else guard()


def _source(node: fx.Node) -> fx.Node:
    """The operator behind a getitem."""
    return node.args[0] if node.target is operator.getitem else node  # type: ignore[return-value]


def _shape(node: fx.Node) -> Shape:
    shape: Any = node.meta.get("shape", ())
    return shape[0] if shape and isinstance(shape[0], tuple) else shape


def _flat(values: Sequence[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value


def _permuted(operation: str, args: Sequence[Any], axis: int, rank: int) -> int:
    """Where an axis lies after a permutation."""
    if operation in ("aten.permute", "aten.permute_copy"):
        order: list[int] = [d % rank for d in args[1]]
        return order.index(axis)
    if rank < 2:
        return axis
    first, second = (args[1] % rank, args[2] % rank) if len(args) > 2 else (rank - 2, rank - 1)
    if axis in (first, second):
        return int(first + second - axis)
    return axis


def _saturated(operation: str, func: Any, args: Sequence[Any], output: torch.Tensor) -> float:
    if operation in aten.SOFTMAXES:
        axis = args[1] if len(args) > 1 and isinstance(args[1], int) else -1
        return peaked_rows(output, args[0], axis, log="log" in operation)
    activation = aten.ACTIVATIONS.get(operation)
    if activation is None or not args:
        return 0.0
    return saturated(activation, output, None if aten.in_place(func) else args[0])
