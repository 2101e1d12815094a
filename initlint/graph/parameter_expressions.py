"""Nodes that no data reaches: stored tensors reshaped, masked, scaled, joined, multiplied with each other."""

from __future__ import annotations

from torch import fx

from initlint.graph import aten, layouts
from initlint.graph.layouts import Layout, Shape
from initlint.graph.propagation import SPLITTING, argument, factor, follow, item, result_shape
from initlint.graph.state import Carried, Consumption, Operand

_FOLLOWED = aten.RESHAPES | aten.REDUCTIONS


def compose(seen: Consumption, i: int, node: fx.Node, operands: list[Operand]) -> Carried | None:
    """What a node is made of; None for a constant."""
    sources = [carried for _, p in operands if (carried := seen.carried[p]) is not None]
    if not sources:
        return None
    name = seen.names[i]
    if name in aten.CONCATENATIONS:
        return _joined(seen, node, operands)
    if len(operands) == 1 and name not in aten.STACKS:
        return _followed(seen, name, node, sources[0])
    if name in aten.LOOKUPS:
        return gathered(name, node, seen.carried[operands[0][1]])
    composed = Carried(gathered=any(carried.gathered for carried in sources))
    sizes = _broadcast(seen, i, operands)
    stack = argument(node, "dim", 0) if name in aten.STACKS else None
    for carried in sources:
        for tensor, layout in carried.layouts.items():
            if stack is not None:
                d = stack % (len(layout) + 1)
                layout = (*layout[:d], layouts.foreign(len(operands)), *layout[d:])
            elif sizes is not None and len(sizes) >= len(layout):
                layout = layouts.expand(layout, sizes)
            best = composed.layouts.get(tensor)
            if best is None or layouts.labelled(layout) > layouts.labelled(best):
                composed.layouts[tensor] = layout
                composed.inner[tensor] = carried.inner.get(tensor, ())
    return composed


def _broadcast(seen: Consumption, i: int, operands: list[Operand]) -> Shape | None:
    known = result_shape(seen.nodes[i])
    if known is not None:
        return known
    shapes = [shape for _, p in operands if (shape := seen.shape(p)) is not None]
    ndim = max((len(s) for s in shapes), default=0)
    padded = [(1,) * (ndim - len(s)) + tuple(s) for s in shapes]
    return tuple(max(column) for column in zip(*padded, strict=True))


def _followed(seen: Consumption, name: str, node: fx.Node, carried: Carried) -> Carried:
    moved = Carried(inner=carried.inner, gathered=carried.gathered)
    for tensor, layout in carried.layouts.items():
        after: Layout | None = layout
        if name == "getitem":
            parent = node.args[0]
            assert isinstance(parent, fx.Node)
            after = item(node, seen.names[seen.position[parent]], layout)
        elif name in _FOLLOWED and name not in SPLITTING:
            after = follow(node, name, layout)
        elif name not in SPLITTING:
            sizes = result_shape(node)
            if sizes is not None and sizes != layouts.shape(layout):
                after = follow(node, name, layout)
        moved.layouts[tensor] = after if after is not None else _lost(node)
    return moved


def _lost(node: fx.Node) -> Layout:
    """The layout of a tensor whose axes can no longer be told."""
    return tuple([layouts.foreign(n) for n in result_shape(node) or ()])


def gathered(name: str, node: fx.Node, carried: Carried | None) -> Carried | None:
    """Rows picked from a stored tensor: the axes that no index replaces keep their places at the end."""
    if carried is None:
        return None
    sizes = result_shape(node)
    picked = Carried(inner=carried.inner, gathered=True)
    for tensor, layout in carried.layouts.items():
        indices = argument(node, "indices")
        several = isinstance(indices, (list, tuple))
        scattered = several and any(index is None for index in indices)
        elementwise = scattered or name in ("aten.gather", "aten.take")
        rest = () if elementwise else layout[len(indices) if several else 1 :]
        if sizes is None or len(rest) > len(sizes):
            picked.layouts[tensor] = _lost(node)
        else:
            front = sizes[: len(sizes) - len(rest)]
            picked.layouts[tensor] = (*(layouts.foreign(n) for n in front), *rest)
    return picked


def _joined(seen: Consumption, node: fx.Node, operands: list[Operand]) -> Carried:
    """Stored tensors side by side: each runs over its part of the common axis."""
    shapes = [shape for _, p in operands if (shape := seen.shape(p)) is not None]
    if len(shapes) != len(operands) or len({len(shape) for shape in shapes}) != 1:
        return Carried({tensor: _lost(node) for _, p in operands for tensor in seen.layouts(p)})
    dim = argument(node, "dim", 0) % len(shapes[0])
    total = sum(shape[dim] for shape in shapes)
    joined, start = Carried(), 0
    for (_, p), shape in zip(operands, shapes, strict=True):
        for tensor, layout in seen.layouts(p).items():
            along = layout[dim]
            if len(along) == 1 and along[0].axis != layouts.FOREIGN:
                along = (along[0]._replace(size=total, offset=along[0].offset - start),)
            else:
                along = layouts.foreign(total)
            joined.layouts.setdefault(tensor, layouts.replaced(layout, dim, along))
        start += shape[dim]
    return joined


def multiply(seen: Consumption, i: int, node: fx.Node, left: int, right: int) -> Carried | None:
    """A product of stored tensors, as in low-rank updates and spectral norms."""
    name, sizes = seen.names[i], result_shape(node)
    shapes = seen.shape(left), seen.shape(right)
    product = Carried()
    for side, operand in enumerate((left, right)):
        carried, other = seen.carried[operand], shapes[1 - side]
        if carried is None:
            continue
        for tensor, layout in carried.layouts.items():
            own = factor(node, name, side, len(layout))
            their = factor(node, name, 1 - side, len(other)) if other is not None else None
            if own is None or their is None or other is None:
                product.layouts[tensor] = _lost(node)
                continue
            summed = [axis for d in own.contracted for axis in layouts.stored_axes(layout[d])]
            product.inner[tensor] = tuple(dict.fromkeys((*carried.inner.get(tensor, ()), *summed)))
            kept = layouts.permute(layout, own.kept)
            rest = tuple([layouts.foreign(other[d]) for d in their.kept])
            made = layouts.permute(layout, own.shared) + (kept + rest if side == 0 else rest + kept)
            fits = sizes is None or layouts.shape(made) == sizes
            product.layouts[tensor] = made if fits else _lost(node)
    return product if product.layouts else None
