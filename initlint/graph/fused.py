"""How the outputs of weights are split afterwards: fused projections and gates."""

from __future__ import annotations

from torch import fx

from initlint.graph import aten, layouts
from initlint.graph.layouts import Dimension, Layout
from initlint.graph.propagation import (
    SPLITTING,
    argument,
    bounds,
    follow,
    item,
    result_shape,
    section,
    split_dimension,
)
from initlint.graph.state import Consumption

_KEPT = aten.RESHAPES | aten.UNARY
_HANDED = SPLITTING | aten.RECURRENT_CELLS
#: Weights whose outputs are followed together through one addition (gates of input and state).
_TOGETHER = 4


def track(seen: Consumption, i: int, node: fx.Node) -> dict[str, Layout] | None:
    """Follow the output axes of weights through views and bias additions, and note where they are cut."""
    sources = [tracked for p in seen.flowing[i] if (tracked := seen.tracked[p])]
    if not sources:
        return None
    name = seen.names[i]
    if name == "getitem":
        return _item(seen, i, node, sources[0])
    if name in _HANDED:
        return sources[0]
    if name in aten.ADDITIONS:
        if len(sources) != len(seen.flowing[i]) or sum(map(len, sources)) > _TOGETHER:
            return None
        sizes = result_shape(node)
        return {t: x for s in sources for t, x in s.items() if sizes is None or layouts.shape(x) == sizes}
    if name in aten.CONCATENATIONS:
        _heal(seen, i)
    elif name == "aten.glu":
        for tensor, layout in sources[0].items():
            along = layout[argument(node, "dim", -1)]
            half = layouts.length(along) // 2
            _cut(seen, i, i, tensor, along, half, half)
    elif name in _KEPT:
        return _follow(seen, i, node, name, sources[0])
    return None


def _follow(
    seen: Consumption, i: int, node: fx.Node, name: str, tracked: dict[str, Layout]
) -> dict[str, Layout] | None:
    followed = {}
    for tensor, layout in tracked.items():
        if name in aten.SLICES or name in aten.SELECTIONS:
            _cut_slice(seen, i, node, name, tensor, layout)
        after = follow(node, name, layout)
        if after is not None:
            followed[tensor] = after
    return followed or None


def _item(seen: Consumption, i: int, node: fx.Node, tracked: dict[str, Layout]) -> dict[str, Layout] | None:
    whole, index = node.args
    assert isinstance(whole, fx.Node)
    assert isinstance(index, int)
    parent = seen.position[whole]
    name = seen.names[parent]
    followed = {}
    for tensor, layout in tracked.items():
        dim = split_dimension(whole, len(layout)) if name in SPLITTING else None
        piece = section(whole, name, index, layouts.length(layout[dim])) if dim is not None else None
        if dim is not None and piece is not None:
            _cut(seen, i, parent, tensor, layout[dim], *piece)
        after = item(node, name, layout)
        if after is not None:
            followed[tensor] = after
    return followed or None


def _cut_slice(seen: Consumption, i: int, node: fx.Node, name: str, tensor: str, layout: Layout) -> None:
    dim, whole = split_dimension(node, len(layout)), node.args[0]
    if dim is None or not isinstance(whole, fx.Node):
        return
    size, parent = layouts.length(layout[dim]), seen.position[whole]
    if name in aten.SELECTIONS:
        index = argument(node, "index", 0)
        if isinstance(index, int) and size:
            _cut(seen, i, parent, tensor, layout[dim], index % size, 1)
        return
    start, count, step = bounds(node, name, size)
    if step == 1 and count != size:
        _cut(seen, i, parent, tensor, layout[dim], start, count)


def _cut(
    seen: Consumption, i: int, parent: int, tensor: str, along: Dimension, start: int, count: int
) -> None:
    """Note that `count` elements from `start` were taken along a dimension that holds the output axis."""
    if not along or along[0].axis == layouts.FOREIGN:
        return
    if not along[0].outer:
        if not along[0].offset:
            whole = along[0].stride, layouts.length(along)
            seen.woven.setdefault(tensor, {}).setdefault(whole, set()).add((start, count))
        return
    first, unit = along[0], layouts.length(along[1:])
    if not unit or start % unit or count % unit:
        return
    ends = first.offset + start // unit * first.stride, first.offset + (start + count) // unit * first.stride
    seen.cuts.setdefault(tensor, set()).update(ends)
    seen.pieces[i] = parent, tensor, ends


def _heal(seen: Consumption, i: int) -> None:
    """Pieces that are joined again at once were no parts: the halves of a rotary embedding."""
    origins = []
    for p in seen.flowing[i]:
        while p not in seen.pieces and len(seen.flowing[p]) == 1 and seen.names[p] in aten.UNARY:
            p = seen.flowing[p][0]
        if p not in seen.pieces:
            return
        origins.append(seen.pieces[p])
    if len({(parent, tensor) for parent, tensor, _ in origins}) == 1:
        tensor = origins[0][1]
        seen.cuts[tensor] = seen.cuts[tensor].difference(*(ends for _, _, ends in origins))
