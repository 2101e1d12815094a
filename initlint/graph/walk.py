"""Where stored tensors meet the data: one pass over the graph, from the inputs on.

A node is *data* if its values depend on an input. Everything else is made of stored tensors alone
(reshaped, masked, normalised, multiplied with each other) and carries their axes until it meets data.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from initlint.graph import aten, layouts
from initlint.graph.contractions import contract, inside, summed_product
from initlint.graph.fused import track
from initlint.graph.parameter_expressions import compose, gathered
from initlint.graph.state import Carried, Consumption, Meeting, Operand, Stored

_CONTRACTIONS = aten.CONTRACTIONS | {"aten.einsum"}
_FUSED = aten.RECURRENT | aten.ATTENTIONS
_FACTORS = aten.MULTIPLICATIONS | aten.DIVISIONS
_THREE = frozenset({"aten.addcmul", "aten.addcdiv"})
_KEYWORDS = {"bias": 2, "attn_mask": 3, "attn_bias": 3}


def consume(graph: fx.Graph, stored: Mapping[str, Stored]) -> Consumption:
    """Read the graph once, in order."""
    seen = Consumption(stored)
    for i, node in enumerate(graph.nodes):
        op = node.op
        seen.nodes.append(node)
        seen.position[node] = i
        seen.names.append(aten.operation(node.target) if op == "call_function" else op)
        seen.before.append(())
        seen.flowing.append(())
        seen.weights.append(())
        seen.data.append(op == "placeholder")
        seen.contracts.append(False)
        seen.carried.append(None)
        seen.tracked.append(None)
        if op == "get_attr":
            tensor = stored.get(str(node.target))
            if tensor is not None:
                seen.carried[i] = Carried({tensor.name: layouts.stored(tensor.shape)})
        elif op in ("call_function", "output"):
            _enter(seen, i, node)
    return seen


def _operands(seen: Consumption, node: fx.Node) -> list[Operand]:
    """The nodes among the arguments, each with the position of its argument."""
    operands: list[Operand] = []
    position = seen.position
    for place, value in enumerate(node.args):
        if isinstance(value, fx.Node):
            operands.append((place, position[value]))
        elif isinstance(value, (list, tuple)):
            operands.extend([(place, position[v]) for v in value if isinstance(v, fx.Node)])
    for key, value in node.kwargs.items():
        if isinstance(value, fx.Node):
            operands.append((_KEYWORDS.get(key, -1), position[value]))
    return operands


def _enter(seen: Consumption, i: int, node: fx.Node) -> None:
    name = seen.names[i]
    if name in aten.LIKE:
        return
    operands = _operands(seen, node)
    rest = operands
    if name in _CONTRACTIONS:
        rest = contract(seen, i, node, operands)
    else:
        seen.data[i] = any(seen.data[p] for _, p in operands) or _becomes_data(seen, name, node, operands)
        if not seen.data[i]:
            seen.carried[i] = compose(seen, i, node, operands)
    if node.op == "output":
        seen.outputs = tuple(dict.fromkeys([p for _, p in operands]))
    if not seen.data[i]:
        return
    before = [operand for operand in operands if seen.data[operand[1]]]
    seen.before[i] = tuple(dict.fromkeys([p for _, p in before]))
    flowing = aten.FLOWING.get(name)
    if flowing is not None:
        before = [operand for operand in before if operand[0] in flowing]
    seen.flowing[i] = _values(seen, before)
    if len(operands) > len(seen.before[i]):
        _meet(seen, i, rest)
    if name == "aten.sum":
        summed_product(seen, i, node)
    if not seen.contracts[i] or seen.tracked[i] is None:
        seen.tracked[i] = track(seen, i, node)


def _values(seen: Consumption, operands: list[Operand]) -> tuple[int, ...]:
    """Positions of the operands, without the whole numbers and truth values that mask the others."""
    flowing = tuple(dict.fromkeys([p for _, p in operands]))
    if len(flowing) < 2:
        return flowing
    masks = [p for p in flowing if _discrete(seen.nodes[p])]
    return tuple([p for p in flowing if p not in masks]) if 0 < len(masks) < len(flowing) else flowing


def _discrete(node: fx.Node) -> bool:
    dtype = node.meta.get("dtype")
    return dtype is not None and not (dtype.is_floating_point or dtype.is_complex)


def _becomes_data(seen: Consumption, name: str, node: fx.Node, operands: list[Operand]) -> bool:
    """A node of stored tensors that is no weight: rows looked up, another module's tensor normalised."""
    if not operands or node.op == "output":
        return False
    if "embedding" in name or name in _FUSED:
        return True
    if name not in aten.NORMS:
        return False
    module = node.meta.get("module") or ""
    owners = [tensor.owner for tensor in seen.parameters(operands[0][1])]
    return (
        bool(owners)
        and not any(inside(owner, module) for owner in owners)
        and any(inside(tensor.owner, module) for _, p in operands[1:] for tensor in seen.parameters(p))
    )


def _meet(seen: Consumption, i: int, operands: list[Operand]) -> None:
    """Stored tensors among the operands of a node that is data."""
    name = seen.names[i]
    partner = next((p for p in seen.before[i]), None)
    for place, p in operands:
        carried = seen.carried[p]
        if seen.data[p] or carried is None:
            continue
        role = _role(name, place, carried)
        for tensor, layout in carried.layouts.items():
            seen.meetings.append(Meeting(tensor, i, role, partner, layouts.labelled(layout), source=p))
            if seen.stored[tensor].parameter:
                seen.weights[i] += (tensor,)
                if role in ("lookup", "recurrent"):
                    seen.contracts[i] = True
        if role == "lookup" and "embedding" not in name:
            _pass_rows(seen, i, carried)


def _pass_rows(seen: Consumption, i: int, carried: Carried) -> None:
    """Stacks of matrices that data picks from stay weights: experts chosen by a router."""
    stacks = {t for t in carried.layouts if sum(n != 1 for n in seen.stored[t].shape) >= 3}
    if stacks:
        seen.carried[i] = gathered(seen.names[i], seen.nodes[i], carried)
        seen.contracts[i] = False


def _role(name: str, place: int, carried: Carried) -> str:
    """What the argument at `place` is for; see Meeting."""
    if name in aten.NORMS:
        _, gain, shift = aten.NORMS[name]
        return "table" if place == 0 else "gain" if place == gain else "shift" if place == shift else "state"
    if name in aten.LOOKUPS:
        return "lookup" if place == 0 else "state"
    if name in _CONTRACTIONS:
        return "table" if carried.gathered else "shift"
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
