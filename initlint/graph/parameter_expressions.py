"""Nodes that no data reaches: stored tensors reshaped, masked, scaled, joined, multiplied with each other."""

from __future__ import annotations

from torch.fx import Node

from initlint.graph import aten, layouts
from initlint.graph.layouts import Layout, Shape
from initlint.graph.propagation import SPLITTING, argument, factor, follow, item, result_shape
from initlint.graph.state import Carried, GraphState, NodeState, Operand

_FOLLOWED = aten.RESHAPES | aten.REDUCTIONS


def compose(graph: GraphState, node: NodeState, operands: list[Operand]) -> Carried | None:
    """What a node is made of; None for a constant."""
    sources = [p.carried for _, p in operands if p.carried is not None]
    if not sources:
        return None
    name = node.operator
    if name in aten.CONCATENATIONS:
        return _concatenation(node, operands)
    if len(operands) == 1 and name not in aten.STACKS:
        return _view(graph, node, sources[0])
    if name in aten.LOOKUPS:
        return picked_rows(node, operands[0].node.carried)
    composed = Carried(picked=any(carried.picked for carried in sources))
    sizes = _broadcast_shape(node, operands)
    for carried in sources:
        for tensor, layout in carried.layouts.items():
            if name in aten.STACKS:
                layout = _stack(node, layout, len(operands))
            elif len(sizes) >= len(layout):
                layout = layouts.expand(layout, sizes)
            best = composed.layouts.get(tensor)
            if best is None or layouts.count_labelled(layout) > layouts.count_labelled(best):
                composed.layouts[tensor] = layout
                composed.inner[tensor] = carried.inner.get(tensor, ())
    return composed


def _stack(node: NodeState, layout: Layout, count: int) -> Layout:
    """With the new dimension along which `count` tensors are stacked."""
    d = argument(node.fx, "dim", 0) % (len(layout) + 1)
    return (*layout[:d], layouts.foreign(count), *layout[d:])


def _broadcast_shape(node: NodeState, operands: list[Operand]) -> Shape:
    known = result_shape(node.fx)
    if known is not None:
        return known
    shapes = [shape for _, p in operands if (shape := p.shape) is not None]
    ndim = max((len(s) for s in shapes), default=0)
    padded = [(1,) * (ndim - len(s)) + tuple(s) for s in shapes]
    return tuple(max(column) for column in zip(*padded, strict=True))


def _view(graph: GraphState, node: NodeState, carried: Carried) -> Carried:
    """A node of one operand: its axes moved, or kept by an elementwise function."""
    moved = Carried(inner=carried.inner, picked=carried.picked)
    for tensor, layout in carried.layouts.items():
        after = _layout_behind(graph, node, layout)
        moved.layouts[tensor] = after if after is not None else _unlabelled(node)
    return moved


def _layout_behind(graph: GraphState, node: NodeState, layout: Layout) -> Layout | None:
    name = node.operator
    if name == "getitem":
        whole = node.fx.args[0]
        assert isinstance(whole, Node)
        return item(node.fx, graph[whole].operator, layout)
    if name in SPLITTING:
        return layout
    sizes = result_shape(node.fx)
    if name in _FOLLOWED or (sizes is not None and sizes != layouts.shape(layout)):
        return follow(node.fx, name, layout)
    return layout


def _unlabelled(node: NodeState) -> Layout:
    """The layout of a tensor whose axes can no longer be told."""
    return tuple([layouts.foreign(n) for n in result_shape(node.fx) or ()])


def picked_rows(node: NodeState, carried: Carried | None) -> Carried | None:
    """Rows picked from a stored tensor: the axes that no index replaces keep their places at the end."""
    if carried is None:
        return None
    sizes = result_shape(node.fx)
    picked = Carried(inner=carried.inner, picked=True)
    for tensor, layout in carried.layouts.items():
        indices = argument(node.fx, "indices")
        several = isinstance(indices, (list, tuple))
        scattered = several and any(index is None for index in indices)
        elementwise = scattered or node.operator in ("aten.gather", "aten.take")
        rest = () if elementwise else layout[len(indices) if several else 1 :]
        if sizes is None or len(rest) > len(sizes):
            picked.layouts[tensor] = _unlabelled(node)
        else:
            front = sizes[: len(sizes) - len(rest)]
            picked.layouts[tensor] = (*(layouts.foreign(n) for n in front), *rest)
    return picked


def _concatenation(node: NodeState, operands: list[Operand]) -> Carried:
    """Stored tensors side by side: each runs over its part of the common axis."""
    shapes = [shape for _, p in operands if (shape := p.shape) is not None]
    if len(shapes) != len(operands) or len({len(shape) for shape in shapes}) != 1:
        return Carried({tensor: _unlabelled(node) for _, p in operands for tensor in p.layouts})
    dim = argument(node.fx, "dim", 0) % len(shapes[0])
    total = sum(shape[dim] for shape in shapes)
    joined, start = Carried(), 0
    for (_, p), shape in zip(operands, shapes, strict=True):
        for tensor, layout in p.layouts.items():
            along = layout[dim]
            if len(along) == 1 and along[0].axis != layouts.FOREIGN:
                along = (along[0]._replace(size=total, offset=along[0].offset - start),)
            else:
                along = layouts.foreign(total)
            joined.layouts.setdefault(tensor, layouts.replace_dimension(layout, dim, along))
        start += shape[dim]
    return joined


def multiply(node: NodeState, left: NodeState, right: NodeState) -> Carried | None:
    """A product of stored tensors, as in low-rank updates and spectral norms."""
    product = Carried()
    for side, (operand, partner) in enumerate(((left, right), (right, left))):
        if operand.carried is None:
            continue
        for tensor, layout in operand.carried.layouts.items():
            made = _factor_layout(node, side, layout, partner.shape)
            if made is None:
                product.layouts[tensor] = _unlabelled(node)
                continue
            product.layouts[tensor], summed = made
            known = operand.carried.inner.get(tensor, ())
            product.inner[tensor] = tuple(dict.fromkeys((*known, *summed)))
    return product if product.layouts else None


def _factor_layout(
    node: NodeState, side: int, layout: Layout, other: Shape | None
) -> tuple[Layout, list[int]] | None:
    """The layout of one factor of a product in its result, and its axes that were summed over."""
    own = factor(node.fx, node.operator, side, len(layout))
    their = factor(node.fx, node.operator, 1 - side, len(other)) if other is not None else None
    if own is None or their is None or other is None:
        return None
    summed = [axis for d in own.contracted for axis in layouts.stored_axes(layout[d])]
    kept = layouts.permute(layout, own.kept)
    rest = tuple([layouts.foreign(other[d]) for d in their.kept])
    made = layouts.permute(layout, own.shared) + (kept + rest if side == 0 else rest + kept)
    sizes = result_shape(node.fx)
    fits = sizes is None or layouts.shape(made) == sizes
    return (made if fits else _unlabelled(node)), summed
