"""Products of a weight with data: which factor is the weight, and which of its axes are summed over."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from torch.fx import Node

from initlint.graph import aten, layouts
from initlint.graph.declared_roles import convolution
from initlint.graph.layouts import Layout
from initlint.graph.parameter_expressions import multiply
from initlint.graph.propagation import Factor, argument, factor, is_transposed, numbers, result_shape
from initlint.graph.state import Carried, GraphState, Meeting, NodeState, Operand, Stored


def contract(graph: GraphState, node: NodeState, operands: list[Operand]) -> list[Operand]:
    """The operands of a product that are no factor, once its weight, if any, is applied to its data."""
    factors = _factors(graph, node)
    if factors is None:
        node.data = any(p.data for _, p in operands)
        return operands
    left, right = factors
    side = _weight_side(graph, node, left, right)
    rest = [operand for operand in operands if operand.node not in factors]
    if side is None and not (left.data or right.data):
        node.carried = multiply(node, left, right)
        return rest
    node.data = True
    weight, data = (left, right) if side == 0 else (right, left)
    for p in (data,) if side is not None else factors:
        for tensor, layout in p.layouts.items() if not p.data else ():
            # a table of learned or fixed inputs
            graph.meetings.append(Meeting(tensor, node, "table", None, layouts.count_labelled(layout)))
    if side is not None and weight.carried is not None:
        _apply(graph, node, side, weight.carried, data)
    return rest


def _factors(graph: GraphState, node: NodeState) -> tuple[NodeState, NodeState] | None:
    """The left and the right factor."""
    if node.operator == "aten.einsum":
        found = argument(node.fx, "tensors", ())
    else:
        places = aten.PRODUCTS.get(node.operator, (0, 1))
        found = [node.fx.args[p] for p in places if p < len(node.fx.args)]
    if len(found) != 2 or not all(isinstance(n, Node) for n in found):
        return None
    return graph[found[0]], graph[found[1]]


# ---------------------------------------------------------------- who is weight, who is data


def _weight_side(graph: GraphState, node: NodeState, left: NodeState, right: NodeState) -> int | None:
    """Which factor is the weight, 0 or 1; None if neither is, or if both make a weight together."""
    if left.data and right.data:
        stacks = [p for p in (left, right) if p.carried is not None]
        return None if len(stacks) != 1 else int(stacks[0] is right)
    if left.data or right.data:
        # What a convolution is applied to is no kernel, even if the data made the kernel.
        convolves = node.operator in aten.CONVOLUTIONS
        return None if convolves and not left.data else int(left.data)
    if "parametrizations" in node.module:
        return None
    sides = [graph.parameters(left), graph.parameters(right)]
    if bool(sides[0]) != bool(sides[1]):
        weight, other = (0, right) if sides[0] else (1, left)
        # The vectors of a spectral norm are buffers beside the weight.
        if other.layouts and all(graph.stored[n].owner == sides[weight][0].owner for n in other.layouts):
            return None
        return weight
    tests: tuple[Callable[[Stored], bool], ...] = (lambda t: is_inside(t.owner, node.module), _is_declared)
    for test in tests:
        left_is, right_is = (any(test(tensor) for tensor in side) for side in sides)
        if left_is != right_is:
            return int(right_is)
    return None


def is_inside(path: str, module: str) -> bool:
    """Whether a module path lies in a module."""
    return not module or path == module or path.startswith(f"{module}.")


def _is_declared(tensor: Stored) -> bool:
    return tensor.declared is not None and tensor.declared.role in ("matrix", "kernel", "recurrent")


# ---------------------------------------------------------------- the product


def _apply(graph: GraphState, node: NodeState, side: int, carried: Carried, data: NodeState) -> None:
    """A weight made of stored tensors is applied to data."""
    name = node.operator
    met: dict[str, tuple[Layout, Factor]] = {}
    for tensor, layout in carried.layouts.items():
        parts = factor(node.fx, name, side, len(layout))
        if parts is None:
            graph.meetings.append(Meeting(tensor, node, "declared", data))
        else:
            met[tensor] = layout, parts
    mains = _mains(graph, list(met))
    tracked = {}
    for tensor, (layout, parts) in met.items():
        if tensor not in mains:
            role = "scalar" if graph.stored[tensor].parameter else "state"
            graph.meetings.append(Meeting(tensor, node, role, data, layouts.count_labelled(layout)))
            continue
        facts = _contraction(graph.stored[tensor], carried.inner.get(tensor, ()), layout, parts)
        if name in aten.CONVOLUTIONS:
            facts = _kernel(node, layout, facts)
        graph.meetings.append(Meeting(tensor, node, facts["role"], data, 2, facts, _edges(layout, parts)))
        made = _result_layout(node, side, layout, parts)
        if made is not None:
            tracked[tensor] = made
    parameters = tuple([tensor for tensor in mains if graph.stored[tensor].parameter])
    node.weights += parameters
    node.contracts = bool(parameters)
    node.tracked = tracked or None


def _mains(graph: GraphState, tensors: list[str]) -> list[str]:
    """The tensors that hold a weight's values, not its scales or masks."""
    parameters = [t for t in tensors if graph.stored[t].parameter] or tensors
    if len(parameters) == 1:
        return parameters
    return [t for t in parameters if sum(n != 1 for n in graph.stored[t].shape) >= 2] or parameters


def _contraction(tensor: Stored, summed: tuple[int, ...], layout: Layout, parts: Factor) -> dict[str, Any]:
    """Fans and axes of a tensor with this layout; `summed` axes were contracted before the product."""
    terms, kept = _extents(layout, parts.contracted), _extents(layout, parts.kept)
    inner = {axis: tensor.shape[axis] for axis in summed if axis not in terms}
    if terms:
        kept |= inner
    else:
        terms = inner
    single = [axis for axis, n in enumerate(tensor.shape) if n == 1]
    contracted = sorted(terms)
    if not terms and single:
        contracted = single[-1:] if kept or len(tensor.shape) == 1 else single
    outputs = sorted(kept) or [axis for axis in single if axis not in contracted][:1]
    used = {*contracted, *outputs}
    return {
        "role": "matrix",
        "fan_in": prod(terms.values()),
        "fan_out": prod(kept.values()),
        "contracted": tuple(contracted),
        "outputs": tuple(outputs),
        "stacked": tuple([a for a, n in enumerate(tensor.shape) if n != 1 and a not in used]),
    }


def _extents(layout: Layout, dims: tuple[int, ...]) -> dict[int, int]:
    """How many steps along each stored axis some dimensions make together."""
    extents: dict[int, int] = {}
    for d in dims:
        for piece in layout[d]:
            if piece.axis != layouts.FOREIGN:
                extents[piece.axis] = extents.get(piece.axis, 1) * piece.size
    return extents


def _kernel(node: NodeState, layout: Layout, facts: dict[str, Any]) -> dict[str, Any]:
    """Fans of a convolution; the axes are the stored ones if the kernel is used as it is stored."""
    groups = argument(node.fx, "groups", 1)
    stride = numbers(argument(node.fx, "stride")) or (1,)
    if not isinstance(groups, int):
        return {**facts, "role": "kernel"}
    kernel = convolution(layouts.shape(layout), groups, stride, is_transposed(node.fx, node.operator))
    if all(len(d) <= 1 and all(piece.axis == k for piece in d) for k, d in enumerate(layout)):
        return kernel
    return {**kernel, **{key: facts[key] for key in ("contracted", "outputs", "stacked")}}


def _edges(layout: Layout, parts: Factor) -> tuple[int, ...]:
    """Where along its output axis a slice of a weight begins and ends."""
    if len(parts.kept) != 1 or len(layout[parts.kept[0]]) != 1:
        return ()
    piece = layout[parts.kept[0]][0]
    if piece.axis == layouts.FOREIGN or not piece.outer:
        return ()
    return piece.offset, piece.offset + piece.size * piece.stride


def _result_layout(node: NodeState, side: int, layout: Layout, parts: Factor) -> Layout | None:
    """The layout of a product's result, one dimension of which is the weight's output axis."""
    sizes = result_shape(node.fx)
    if not sizes or len(parts.kept) != 1 or node.operator == "aten.einsum":
        return None
    if node.operator in aten.CONVOLUTIONS:
        place = 1 if len(sizes) == len(layout) else 0
    elif side == 1 or len(sizes) == 1:
        place = len(sizes) - 1
    else:
        place = len(sizes) - 2
    kept = layout[parts.kept[0]]
    if layouts.length(kept) != sizes[place]:
        return None
    return layouts.replace_dimension(tuple([layouts.foreign(n) for n in sizes]), place, kept)


def sum_product(graph: GraphState, node: NodeState) -> None:
    """(x · w).sum(dim) contracts w, as a product of matrices would."""
    source = node.fx.args[0]
    if not isinstance(source, Node):
        return
    product, sizes = graph[source], result_shape(source)
    if product.operator not in aten.MULTIPLICATIONS or sizes is None or len(product.flowing) != 1:
        return
    ndim = len(sizes)
    dims = {d % ndim for d in numbers(argument(node.fx, "dim")) or range(ndim)} if ndim else set()
    for tensor, layout in [item for p in product.inputs for item in p.layouts.items()]:
        own = layouts.align(layout, ndim)
        contracted = tuple(d for d in dims if layouts.stored_axes(own[d]))
        stored = graph.stored[tensor]
        if not contracted or not stored.parameter or prod(stored.shape) == 1:
            continue
        kept = tuple(d for d in range(ndim) if d not in dims and layouts.stored_axes(own[d]))
        facts = _contraction(stored, (), own, Factor(contracted, kept))
        graph.meetings.append(Meeting(tensor, node, "matrix", product.flowing[0], 2, facts))
        node.weights += (tensor,)
        node.contracts = True
