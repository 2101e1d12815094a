"""How the outputs of weights are split afterwards: fused projections and gates."""

from __future__ import annotations

from torch.fx import Node

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
from initlint.graph.state import Cut, GraphState, NodeState

_KEPT = aten.RESHAPES | aten.UNARY
_HANDED = SPLITTING | aten.RECURRENT_CELLS
#: Weights whose outputs are followed together through one addition (gates of input and state).
_TOGETHER = 4


def output_axes(graph: GraphState, node: NodeState) -> dict[str, Layout] | None:
    """The output axes of weights behind views and bias additions; where they are cut is noted."""
    sources = [tracked for p in node.flowing if (tracked := p.tracked)]
    if not sources:
        return None
    name = node.operator
    if name == "getitem":
        return _item(graph, node, sources[0])
    if name in _HANDED:
        return sources[0]
    if name in aten.ADDITIONS:
        if len(sources) != len(node.flowing) or sum(map(len, sources)) > _TOGETHER:
            return None
        sizes = result_shape(node.fx)
        return {t: x for s in sources for t, x in s.items() if sizes is None or layouts.shape(x) == sizes}
    if name in aten.CONCATENATIONS:
        _heal(graph, node)
    elif name == "aten.glu":
        for tensor, layout in sources[0].items():
            along = layout[argument(node.fx, "dim", -1)]
            half = layouts.length(along) // 2
            _cut(graph, node, node, tensor, along, half, half)
    elif name in _KEPT:
        return _view(graph, node, sources[0])
    return None


def _view(graph: GraphState, node: NodeState, tracked: dict[str, Layout]) -> dict[str, Layout] | None:
    followed = {}
    for tensor, layout in tracked.items():
        if node.operator in aten.SLICES or node.operator in aten.SELECTIONS:
            _cut_slice(graph, node, tensor, layout)
        after = follow(node.fx, node.operator, layout)
        if after is not None:
            followed[tensor] = after
    return followed or None


def _item(graph: GraphState, node: NodeState, tracked: dict[str, Layout]) -> dict[str, Layout] | None:
    source, index = node.fx.args
    assert isinstance(source, Node)
    assert isinstance(index, int)
    whole = graph[source]
    name = whole.operator
    followed = {}
    for tensor, layout in tracked.items():
        dim = split_dimension(source, len(layout)) if name in SPLITTING else None
        piece = section(source, name, index, layouts.length(layout[dim])) if dim is not None else None
        if dim is not None and piece is not None:
            _cut(graph, node, whole, tensor, layout[dim], *piece)
        after = item(node.fx, name, layout)
        if after is not None:
            followed[tensor] = after
    return followed or None


def _cut_slice(graph: GraphState, node: NodeState, tensor: str, layout: Layout) -> None:
    dim, source = split_dimension(node.fx, len(layout)), node.fx.args[0]
    if dim is None or not isinstance(source, Node):
        return
    size, whole = layouts.length(layout[dim]), graph[source]
    if node.operator in aten.SELECTIONS:
        index = argument(node.fx, "index", 0)
        if isinstance(index, int) and size:
            _cut(graph, node, whole, tensor, layout[dim], index % size, 1)
        return
    start, count, step = bounds(node.fx, node.operator, size)
    if step == 1 and count != size:
        _cut(graph, node, whole, tensor, layout[dim], start, count)


def _cut(
    graph: GraphState,
    node: NodeState,
    whole: NodeState,
    tensor: str,
    along: Dimension,
    start: int,
    count: int,
) -> None:
    """Note that `count` elements from `start` were taken along a dimension that holds the output axis."""
    if not along or along[0].axis == layouts.FOREIGN:
        return
    if not along[0].outer:
        if not along[0].offset:
            of = along[0].stride, layouts.length(along)
            graph.woven.setdefault(tensor, {}).setdefault(of, set()).add((start, count))
        return
    first, unit = along[0], layouts.length(along[1:])
    if not unit or start % unit or count % unit:
        return
    ends = first.offset + start // unit * first.stride, first.offset + (start + count) // unit * first.stride
    graph.cuts.setdefault(tensor, set()).update(ends)
    node.cut = Cut(whole, tensor, ends)


def _heal(graph: GraphState, node: NodeState) -> None:
    """Pieces that are joined again at once were no parts: the halves of a rotary embedding."""
    cuts: list[Cut] = []
    for p in node.flowing:
        while p.cut is None and len(p.flowing) == 1 and p.operator in aten.UNARY:
            p = p.flowing[0]
        if p.cut is None:
            return
        cuts.append(p.cut)
    if len({(cut.whole, cut.tensor) for cut in cuts}) == 1:
        tensor = cuts[0].tensor
        graph.cuts[tensor] = graph.cuts[tensor].difference(*(cut.ends for cut in cuts))
