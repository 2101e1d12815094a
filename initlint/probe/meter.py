"""Reads what flows through a recorded run: each interesting output, and the gradient that comes back."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import isnan
from typing import Any

import torch
from torch.fx import Node

from initlint.evidence import Scale, Shape, SignalKind
from initlint.graph import OnlineGraph, ancestors, aten, shape_of, source_of
from initlint.probe.reductions import (
    Reductions,
    as_real,
    is_readable,
    peaked_share,
    reductions,
    saturated_share,
    scale,
)

#: Operators that put infinities in place on purpose.
_MASKING = frozenset(
    {"aten.masked_fill", "aten.where", "aten.fill", "aten.full_like", "aten.triu", "aten.tril"}
)
#: Operators whose results are other tensors' values, or not written yet.
_VALUELESS = aten.RESHAPES | frozenset({"aten.empty_like", "aten.new_empty", "aten.new_empty_strided"})


@dataclass(slots=True, eq=False)
class Reading:
    """One operator's output, and the gradient that flowed into it."""

    node: Node
    operation: str
    kind: SignalKind
    shape: Shape
    reductions: Reductions
    saturated: float = 0.0
    operands: tuple[float, float] | None = None  # rms of the two tensors that an addition adds
    input_rms: float | None = None  # rms of the data that a weight is multiplied with
    weights: tuple[str, ...] = ()
    backward: Scale | None = None


class Meter:
    """Watches a GraphRecorder. `readings` are in order of execution; `batch` is the number of inputs."""

    def __init__(self, batch: int | None) -> None:
        self.readings: dict[str, Reading] = {}
        self.muted = False  # gradients that arrive now are not read
        self._batch = batch
        self._graph = OnlineGraph()
        self._operands: tuple[float, float] | None = None
        self._input_rms: float | None = None
        self._waiting: list[tuple[torch.Tensor, Reading]] = []
        self._late: list[tuple[weakref.ref[torch.Tensor], int, Reading]] = []
        self._handles: list[Any] = []
        self._suspect: tuple[Node, str, Scale] | None = None
        self._blamed = False

    # -------------------------------------------------- forward

    def inputs(self, given: Iterable[tuple[Node, torch.Tensor]]) -> None:
        """Read the floating inputs."""
        for node, tensor in given:
            self._graph.add_input(node)
            if is_readable(tensor):
                axis = self._graph.input_axis(node, tensor.dim())
                with undispatched():
                    found = reductions(tensor, axis if tensor.dim() > 1 else None, self._batch)
                self._add(node, "input", "input", tensor, found)

    def before(self, func: Any, args: Sequence[Any], nodes: Sequence[Any]) -> None:
        """Set the hooks of the last outputs, which have their grad_fn by now; read what is overwritten."""
        if self._waiting or self._late:
            self._set_hooks()
        self._operands = self._input_rms = None
        operation = _operation(func)
        if operation in aten.CONTRACTIONS:
            with undispatched():
                self._input_rms = self._data_rms(operation, args, nodes)
        elif operation in aten.ADDITIONS and _is_sum(args):
            with undispatched():
                self._operands = self._rms(nodes[0], args[0]), self._rms(nodes[1], args[1])

    def after(self, node: Node, func: Any, args: Sequence[Any], output: Any) -> None:
        """Read an output if it is of interest."""
        first = output[0] if isinstance(output, (list, tuple)) and output else output
        if not isinstance(first, torch.Tensor) or first.is_nested:
            return
        if not (first.is_floating_point() or first.is_complex()):
            return
        operation = _operation(func)
        axis = self._graph.unit_axis(node, operation, tuple(first.shape))
        kind = self._graph.kind(node, operation)
        if kind == "add" and not (_is_sum(args) and first.dim() > 1):
            kind = None
        if kind is None or not is_readable(first):
            self._note_suspect(node, operation, first)
            return
        with undispatched():
            rectified = aten.ACTIVATIONS.get(operation) in aten.RECTIFYING
            batch = self._batch if self._graph.is_data(node) else None
            units = axis if first.dim() > 1 else None
            found = reductions(first, units, batch, masks=kind == "add", rectified=rectified)
            reading = self._add(node, operation, kind, first, found)
            reading.saturated = _saturated_share(operation, func, args, first)
        reading.operands, reading.input_rms = self._operands, self._input_rms
        if (
            first.requires_grad
            or not torch.is_grad_enabled()
            or any(isinstance(a, torch.Tensor) and a.requires_grad for a in _flat(args))
        ):
            self._waiting.append((first, reading))

    def _add(
        self, node: Node, operation: str, kind: SignalKind, tensor: torch.Tensor, found: Reductions
    ) -> Reading:
        if found.scale.nans or found.scale.infs:
            self._blame_suspect(node)
        reading = Reading(node, operation, kind, tuple(tensor.shape), found)
        self.readings[node.name] = reading
        return reading

    def _data_rms(self, operation: str, args: Sequence[Any], nodes: Sequence[Any]) -> float | None:
        """Rms of the one factor of a product that is data; None where both or none are."""
        places = [p for p in aten.PRODUCTS.get(operation, (0, 1)) if p < len(nodes)]
        data = [p for p in places if self._graph.is_data(nodes[p]) and is_readable(args[p])]
        return self._rms(nodes[data[0]], args[data[0]]) if len(data) == 1 else None

    def _rms(self, node: Any, tensor: torch.Tensor) -> float:
        reading = self.readings.get(source_of(node).name)
        if reading is not None and reading.shape == tuple(tensor.shape):
            return reading.reductions.scale.rms
        return scale(tensor).rms

    # -------------------------------------------------- what is first not finite

    def _note_suspect(self, node: Node, operation: str, output: torch.Tensor) -> None:
        """Remember the first NaN or +inf between two readings; -inf is how masks are written."""
        if self._suspect is not None or self._blamed or operation in _MASKING:
            return
        if operation in _VALUELESS or not is_readable(output) or not node.all_input_nodes:
            return
        with undispatched():
            largest = float(as_real(output.detach()).amax())
            if isnan(largest) or largest == float("inf"):
                self._suspect = node, operation, scale(output)

    def _blame_suspect(self, node: Node) -> None:
        """Give the operator behind the first reading that is not finite a reading of its own."""
        if self._blamed:
            return
        self._blamed = True
        if self._suspect is None:
            return
        suspect, operation, found = self._suspect
        if suspect in ancestors(node):
            shape = shape_of(suspect)
            self.readings[suspect.name] = Reading(suspect, operation, "other", shape, Reductions(found))

    # -------------------------------------------------- backward

    def _set_hooks(self) -> None:
        """Set hooks on outputs that have their grad_fn; inside a custom Function that takes until its end."""
        for late, version, reading in self._late:
            alive = late()
            if alive is not None and alive._version == version:
                self._waiting.append((alive, reading))
        self._late.clear()
        for tensor, reading in self._waiting:
            if tensor.requires_grad:
                hook = partial(self._read_gradient, reading)
                self._handles.append(tensor.register_hook(hook))  # type: ignore[no-untyped-call]
            elif not tensor.is_inference():
                self._late.append((weakref.ref(tensor), tensor._version, reading))
        self._waiting.clear()

    def _read_gradient(self, reading: Reading, gradient: torch.Tensor | None) -> None:
        # A custom Function may hand None on.
        if not self.muted and gradient is not None and is_readable(gradient):
            with undispatched():
                reading.backward = scale(gradient)

    def outputs(self, results: Iterable[tuple[Node, torch.Tensor]]) -> None:
        """The forward is over: read the outputs that were not, and set the last hooks."""
        for node, tensor in results:
            source = source_of(node)
            if source.name in self.readings or not is_readable(tensor) or node.op != "call_function":
                continue
            batch = self._batch if self._graph.is_data(node) else None
            axis = self._graph.axis(node)
            axis = tensor.dim() - 1 if axis is None else axis
            found = reductions(tensor, axis if 0 < axis < tensor.dim() else None, batch, masks=True)
            reading = self._add(node, _operation(source.target), "output", tensor, found)
            self._waiting.append((tensor, reading))
        self._set_hooks()

    def close(self) -> None:
        """Take the hooks away, put the readings in order, and name the weights of each."""
        for handle in self._handles:
            handle.remove()
        self._waiting.clear()
        graph = next(iter(self.readings.values())).node.graph if self.readings else None
        order = {node.name: position for position, node in enumerate(graph.nodes if graph else ())}
        self.readings = dict(sorted(self.readings.items(), key=lambda item: order[item[0]]))
        for reading in self.readings.values():
            reading.weights = self._graph.weights(reading.node)


_OPERATIONS: dict[int, str] = {}  # by id of an operator: they live for ever


def _operation(func: Any) -> str:
    name = _OPERATIONS.get(id(func))
    if name is None:
        name = _OPERATIONS[id(func)] = aten.operation(func)
    return name


_NULL = nullcontext()


def undispatched() -> AbstractContextManager[Any]:
    """Operators run here pass no dispatch mode, so that reading costs no bookkeeping."""
    guard = getattr(torch._C, "_DisableTorchDispatch", None)
    return _NULL if guard is None else guard()


def _is_sum(args: Sequence[Any]) -> bool:
    """Whether two tensors of more than one axis are added: no bias, no scalar."""
    return len(args) > 1 and all(
        isinstance(a, torch.Tensor) and a.dim() > 1 and is_readable(a) for a in args[:2]
    )


def _flat(values: Sequence[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value


def _saturated_share(operation: str, func: Any, args: Sequence[Any], output: torch.Tensor) -> float:
    if operation in aten.SOFTMAXES:
        axis = args[1] if len(args) > 1 and isinstance(args[1], int) else -1
        return peaked_share(output, args[0], axis, log="log" in operation)
    activation = aten.ACTIVATIONS.get(operation)
    if activation is None or not args:
        return 0.0
    return saturated_share(activation, output, None if aten.in_place(func) else args[0])
