"""What a node is, told while the graph is still being recorded: enough to decide how to read its output.

`usage` tells more of it, and more surely, once the graph is complete.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from torch.fx import Node

from initlint.evidence import Shape, SignalKind
from initlint.graph import aten

#: What is computed without an input, of positions say, is no signal.
_FLOWING = frozenset({"add", "activation", "softmax"})
_CHANNELS_FIRST = aten.CONVOLUTIONS | {
    name for name in aten.NORMS if "layer_norm" not in name and "rms_norm" not in name
}


class OnlineGraph:
    """The nodes so far: which are data, and along which axis each has its units."""

    def __init__(self) -> None:
        self._data: dict[Node, bool] = {}
        self._axes: dict[Node, int] = {}
        self._has_inputs = False

    def add_input(self, node: Node) -> None:
        """Note an input of the model."""
        self._has_inputs = self._data[node] = True

    def is_data(self, node: Any) -> bool:
        """Whether the node's values depend on an input of the model."""
        if not isinstance(node, Node):
            return False
        known = self._data.get(node)
        if known is None:
            known = self._data[node] = any(self.is_data(n) for n in node.all_input_nodes)
        return known

    def kind(self, node: Node, name: str) -> SignalKind | None:
        """What a reading of the node is of; None for what is not read. `name` is the operator's."""
        kind = operator_kind(name)
        if kind is None or (kind in _FLOWING and self._has_inputs and not self.is_data(node)):
            return None
        if name in aten.PRODUCTS and all(self.is_data(node.args[i]) for i in aten.PRODUCTS[name]):
            return "other"
        return kind

    def weights(self, node: Node) -> tuple[str, ...]:
        """Stored tensors that enter at the node, through operators that see nothing else."""
        found: dict[str, None] = {}
        stack = list(node.all_input_nodes)
        while stack:
            source = stack.pop(0)
            if source.op == "get_attr":
                found[str(source.target)] = None
            elif not self.is_data(source):
                stack += source.all_input_nodes
        return tuple(found)

    # ------------------------------------------------ the axis of units

    def axis(self, node: Node) -> int | None:
        """The axis of channels or features, where it was asked for with a shape before."""
        return self._axes.get(node)

    def input_axis(self, node: Node, ndim: int) -> int:
        """The axis of channels or features of an input: 1 of images, else the last."""
        axis = self._axes[node] = 1 if ndim > 3 else max(ndim - 1, 0)
        return axis

    def unit_axis(self, node: Node, name: str, shape: Shape) -> int:
        """The axis of channels or features: 1 behind a convolution, carried along, else the last."""
        axis = self._axes[node] = self._unit_axis(node, name, shape)
        return axis

    def _unit_axis(self, node: Node, name: str, shape: Shape) -> int:
        last = max(len(shape) - 1, 0)
        if name in _CHANNELS_FIRST:
            return min(1, last)
        if name in aten.NORMS or name in aten.LINEAR:
            return last
        if name in aten.PRODUCTS:
            left, right = (node.args[i] for i in aten.PRODUCTS[name])
            turned = isinstance(left, Node) and not self.is_data(left) and self.is_data(right)
            return max(last - 1, 0) if turned else last
        known = [n for n in map(source_of, node.all_input_nodes) if n in self._axes]
        source = next((n for n in known if shape_of(n) == shape), known[0] if known else None)
        if source is None:
            return last
        axis, before = self._axes[source], shape_of(source)
        if name in aten.PERMUTATIONS:
            return _permuted_axis(name, node.args, axis, len(shape))
        if len(before) == len(shape) and axis < len(shape):
            return axis
        if axis == len(before) - 1 and shape and before[-1] == shape[-1]:
            return last
        return axis if axis < last and before[: axis + 1] == shape[: axis + 1] else last


def source_of(node: Node) -> Node:
    """The operator behind a getitem; any other node itself."""
    return node.args[0] if node.target is operator.getitem else node  # type: ignore[return-value]


def shape_of(node: Node) -> Shape:
    """Shape of a node's first result, () where it is not known."""
    shape: Any = node.meta.get("shape", ())
    return shape[0] if shape and isinstance(shape[0], tuple) else shape


def operator_kind(name: str) -> SignalKind | None:
    """Kind of an operator's output, None for what is not read; "weight" stands for any product or kernel."""
    if name in aten.CONTRACTIONS or name in aten.RECURRENT or name in aten.FUSED_LAYERS:
        return "weight"
    if "embedding" in name:
        return "weight"
    if name in aten.ATTENTIONS:
        return "attention"
    if name in aten.SOFTMAXES:
        return "softmax"
    if name in aten.NORMS:
        return "norm"
    if name in aten.ACTIVATIONS:
        return "activation"
    return "add" if name in aten.ADDITIONS else None


def _permuted_axis(name: str, args: Sequence[Any], axis: int, rank: int) -> int:
    """Where an axis lies after a permutation."""
    if name in ("aten.permute", "aten.permute_copy"):
        order: list[int] = [d % rank for d in args[1]]
        return order.index(axis)
    if rank < 2:
        return axis
    first, second = (args[1] % rank, args[2] % rank) if len(args) > 2 else (rank - 2, rank - 1)
    if axis in (first, second):
        return int(first + second - axis)
    return axis
