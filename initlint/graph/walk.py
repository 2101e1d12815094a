"""Where stored tensors meet the data: one pass over the graph, from the inputs on.

A node is *data* if its values depend on an input. Everything else is made of stored tensors alone
(reshaped, masked, normalised, multiplied with each other) and carries their axes until it meets data.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch.fx import Node

from initlint.graph import aten, layouts
from initlint.graph.contractions import contract, is_inside, sum_product
from initlint.graph.fused import output_axes
from initlint.graph.parameter_expressions import compose, picked_rows
from initlint.graph.state import Carried, GraphState, Meeting, NodeState, Operand

_CONTRACTIONS = aten.CONTRACTIONS | {"aten.einsum"}
_FUSED = aten.RECURRENT | aten.ATTENTIONS
_FACTORS = aten.MULTIPLICATIONS | aten.DIVISIONS
_THREE = frozenset({"aten.addcmul", "aten.addcdiv"})
_KEYWORDS = {"bias": 2, "attn_mask": 3, "attn_bias": 3}


def walk(graph: GraphState) -> None:
    """Tell data from what is made of stored tensors, and note where the two meet."""
    for node, tensor in graph.reads():
        node.carried = Carried({tensor.name: layouts.as_stored(tensor.shape)})
    for node in graph.nodes:
        if node.fx.op == "placeholder":
            node.data = True
        elif node.fx.op in ("call_function", "output") and node.operator not in aten.LIKE:
            _enter(graph, node)


def operands(graph: GraphState, node: NodeState) -> Iterator[Operand]:
    """The nodes among the arguments, each with the position of its argument."""
    for place, value in enumerate(node.fx.args):
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, Node):
                yield Operand(place, graph[item])
    for key, value in node.fx.kwargs.items():
        if isinstance(value, Node):
            yield Operand(_KEYWORDS.get(key, -1), graph[value])


def _enter(graph: GraphState, node: NodeState) -> None:
    name = node.operator
    given = list(operands(graph, node))
    rest = given
    if name in _CONTRACTIONS:
        rest = contract(graph, node, given)
    else:
        node.data = any(p.data for _, p in given) or _becomes_data(graph, node, given)
        if not node.data:
            node.carried = compose(graph, node, given)
    if not node.data:
        return
    before = [operand for operand in given if operand.node.data]
    node.before = _distinct(before)
    places = aten.FLOWING.get(name)
    node.flowing = _values([operand for operand in before if places is None or operand.place in places])
    if len(given) > len(node.before):
        _meet(graph, node, rest)
    if name == "aten.sum":
        sum_product(graph, node)
    if not node.contracts or node.tracked is None:
        node.tracked = output_axes(graph, node)


def _distinct(given: list[Operand]) -> tuple[NodeState, ...]:
    return tuple(dict.fromkeys([operand.node for operand in given]))


def _values(given: list[Operand]) -> tuple[NodeState, ...]:
    """The operands, without the whole numbers and truth values that mask the others."""
    flowing = _distinct(given)
    if len(flowing) < 2:
        return flowing
    return tuple([p for p in flowing if not _is_discrete(p)]) or flowing


def _is_discrete(node: NodeState) -> bool:
    dtype = node.fx.meta.get("dtype")
    return dtype is not None and not (dtype.is_floating_point or dtype.is_complex)


def _becomes_data(graph: GraphState, node: NodeState, given: list[Operand]) -> bool:
    """A node of stored tensors that is no weight: rows looked up, another module's tensor normalised."""
    name = node.operator
    if not given or node.fx.op == "output":
        return False
    if "embedding" in name or name in _FUSED:
        return True
    if name not in aten.NORMS:
        return False
    first, *others = [graph.parameters(p) for _, p in given]
    return (
        bool(first)
        and not any(is_inside(tensor.owner, node.module) for tensor in first)
        and any(is_inside(tensor.owner, node.module) for tensors in others for tensor in tensors)
    )


def _meet(graph: GraphState, node: NodeState, given: list[Operand]) -> None:
    """Note the stored tensors among the operands of a node that is data."""
    partner = next(iter(node.before), None)
    for place, source in given:
        carried = source.carried
        if source.data or carried is None:
            continue
        role = _role(node.operator, place, carried)
        for tensor, layout in carried.layouts.items():
            labelled = layouts.count_labelled(layout)
            graph.meetings.append(Meeting(tensor, node, role, partner, labelled, source=source))
            if graph.stored[tensor].parameter:
                node.weights += (tensor,)
                node.contracts |= role in ("lookup", "recurrent")
        if role == "lookup" and "embedding" not in node.operator:
            _pass_rows(graph, node, carried)


def _pass_rows(graph: GraphState, node: NodeState, carried: Carried) -> None:
    """Stacks of matrices that data picks from stay weights: experts chosen by a router."""
    if any(sum(n != 1 for n in graph.stored[tensor].shape) >= 3 for tensor in carried.layouts):
        node.carried = picked_rows(node, carried)
        node.contracts = False


def _role(name: str, place: int, carried: Carried) -> str:
    """What the argument at `place` is for; see Meeting."""
    if name in aten.NORMS:
        _, gain, shift = aten.NORMS[name]
        return "table" if place == 0 else "gain" if place == gain else "shift" if place == shift else "state"
    if name in aten.LOOKUPS:
        return "lookup" if place == 0 else "state"
    if name in _CONTRACTIONS:
        return "table" if carried.picked else "shift"
    if name in aten.ADDITIONS or (name in _THREE and place == 0):
        return "add"
    if name in _FACTORS or name in _THREE:
        return "multiply"
    if name in aten.ATTENTIONS or name in aten.ASSEMBLIES:
        return "table"
    if name in aten.RECURRENT:
        return "recurrent"
    if name in aten.POINTWISE or "prelu" in name:
        return "scale"
    return "declared"
