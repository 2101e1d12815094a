"""How a model uses its parameters and buffers, read from its graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from initlint.evidence import SignalKind, Use
from initlint.graph import aten
from initlint.graph.activations import find_activations, find_following
from initlint.graph.declared_roles import declared_uses
from initlint.graph.propagation import argument
from initlint.graph.residuals import find_residuals
from initlint.graph.state import GraphState, Meeting, NodeState, Stored
from initlint.graph.walk import walk
from initlint.graph.wiring import Wires

if TYPE_CHECKING:
    from initlint.graph.recorder import Trace

#: Of several uses of one tensor the first of these roles is the one to judge it by.
PRECEDENCE = ("recurrent", "kernel", "matrix", "lookup", "gain", "shift", "table", "scalar", "state", "other")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a graph node is to a reader of the signal.

    `depth` counts weights on the longest path from an input, this node included.
    """

    kind: SignalKind
    depth: int
    weights: tuple[str, ...] = ()  # parameters consumed directly
    residual: bool = False
    stream: str | None = None  # of a residual addition: the node that the branch is added to
    branch_first: bool = False  # the branch is the first operand of the addition
    flowing: tuple[str, ...] = ()  # nodes whose values flow into it
    summands: tuple[tuple[str, ...], ...] = ()  # the last weights behind each operand of an addition


@dataclass(frozen=True, slots=True)
class Usage:
    """Uses by tensor name, and facts by graph node, for every tensor and node that the data reaches."""

    uses: Mapping[str, Use] = field(default_factory=dict)
    nodes: Mapping[str, NodeFacts] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()  # nodes that leave the model


def usage(trace: Trace, model: nn.Module) -> Usage:
    """What a graph says of tensors and nodes; without one, only what torch.nn layers say by their class."""
    declared = declared_uses(model)
    if trace.graph is None:
        return Usage(uses=_paired(declared, {}))
    graph = read_graph(trace.graph, _stored(model, declared))
    wires = Wires(graph)
    nodes = {node.fx.name: _facts(node, wires) for node in graph.nodes if node.data}
    return Usage(
        uses=_paired(dict(_uses(graph, wires)), nodes),
        nodes=nodes,
        outputs=tuple(p.fx.name for node in graph.nodes if node.fx.op == "output" for p in node.before),
    )


def read_graph(graph: fx.Graph, stored: Mapping[str, Stored]) -> GraphState:
    """The graph after all passes."""
    state = GraphState(graph, stored)
    walk(state)
    find_activations(state)
    find_following(state)
    find_residuals(state)
    return state


def _stored(model: nn.Module, declared: Mapping[str, Use]) -> dict[str, Stored]:
    named: dict[str, torch.Tensor] = {}
    for name, tensor in (*nn.Module.named_parameters(model), *nn.Module.named_buffers(model)):
        if not is_lazy(tensor):
            named[name] = tensor
    return {
        name: Stored(
            name,
            tuple(tensor.shape),
            isinstance(tensor, nn.Parameter),
            name.rpartition(".")[0],
            declared.get(name),
        )
        for name, tensor in named.items()
        if isinstance(tensor, nn.Parameter) or tensor.is_floating_point() or tensor.is_complex()
    }


# ---------------------------------------------------------------- nodes


def _facts(node: NodeState, wires: Wires) -> NodeFacts:
    branch, stream = node.residual or (None, None)
    return NodeFacts(
        kind=_kind(node),
        depth=node.depth,
        weights=tuple(dict.fromkeys(node.weights)),
        residual=node.residual is not None,
        stream=stream.fx.name if stream is not None else None,
        branch_first=branch is not None and node.flowing[:1] == (branch,),
        flowing=tuple(p.fx.name for p in node.flowing),
        summands=wires.summands(node),
    )


def _kind(node: NodeState) -> SignalKind:
    if node.fx.op != "call_function":
        return "input" if node.fx.op == "placeholder" else "output"
    if node.contracts:
        return "weight"
    if node.norm:
        return "norm"
    if node.operator in aten.SOFTMAXES:
        return "softmax"
    if node.activation is not None and not node.partial:
        return "activation"
    if node.attention:
        return "attention"
    if node.operator in aten.ADDITIONS and len(node.flowing) > 1:
        return "add"
    return "other"


# ---------------------------------------------------------------- tensors


def _uses(graph: GraphState, wires: Wires) -> Iterator[tuple[str, Use]]:
    met: dict[str, list[Meeting]] = {}
    for meeting in graph.meetings:
        met.setdefault(meeting.tensor, []).append(meeting)
    for node, tensor in graph.reads():
        meetings = met.get(tensor.name)
        yield tensor.name, _use(graph, wires, tensor, meetings) if meetings else _unmet_use(tensor, node)


def _unmet_use(tensor: Stored, node: NodeState) -> Use:
    """A tensor that the graph reads but that never meets data."""
    user = next(iter(node.fx.users), node.fx)
    name = aten.operation(user.target) if user.op == "call_function" else user.op
    role = _role_by_size(tensor) if tensor.parameter else "state"
    return Use(role=role, operation=name, module=user.meta.get("module") or "", node=user.name)


def _role_by_size(tensor: Stored) -> Literal["scalar", "other"]:
    return "scalar" if prod(tensor.shape) == 1 else "other"


def _use(graph: GraphState, wires: Wires, tensor: Stored, meetings: Sequence[Meeting]) -> Use:
    """All uses of one tensor in one record: that of the first role, with what the others add."""
    uses = [(_one_use(tensor, meeting), meeting) for meeting in meetings]
    uses.sort(key=lambda pair: PRECEDENCE.index(pair[0].role))
    first = uses[0][0]
    alike = [(use, meeting) for use, meeting in uses if use.role == first.role]
    functions = [use.activation for use, _ in alike]
    parts, outputs = _parts(graph, tensor, alike)
    return replace(
        first,
        activation=next((a for a in functions if a not in (None, "none")), functions[0]),
        fan_out=outputs or first.fan_out,
        parts=max(parts, first.parts),
        woven=_woven_parts(graph.woven.get(tensor.name, {})) if len(first.outputs) == 1 else 1,
        lookup_too=first.role in PRECEDENCE[:3] and any(use.role == "lookup" for use, _ in uses),
        ends_residual=any(use.ends_residual for use, _ in alike),
        reaches_output=any(use.reaches_output for use, _ in alike),
        uses=len({meeting.node for meeting in meetings}),
        wiring=wires.wiring(alike[0][1], max(parts, first.parts)),
    )


def _one_use(tensor: Stored, meeting: Meeting) -> Use:
    node = meeting.node
    role = _role(tensor, meeting)
    facts: dict[str, Any] = {}
    declared = tensor.declared
    if declared is not None and (role == "other" or "recurrent" in (role, declared.role)):
        role = declared.role
        facts = {key: getattr(declared, key) for key in (*_PRODUCT, "parts")}
    elif declared is not None and role == declared.role:
        facts["parts"] = declared.parts
    elif role == "recurrent":
        role = "other"
    facts |= {key: value for key, value in meeting.facts.items() if key in _PRODUCT}
    if role == "matrix":
        facts |= _average_fans(tensor, meeting, facts)
    flows = node.fx.op == "call_function"
    activation = node.following if flows else None
    if declared is not None and role == "recurrent":
        activation = declared.activation
    return Use(
        role=role,
        operation=node.operator,
        module=node.module,
        **facts,
        activation=activation,
        normalised_before=meeting.partner is not None and meeting.partner.normalised,
        normalised_after=node.normalised_after,
        ends_residual=node.ends_residual,
        reaches_output=node.reaches_output or not flows,
        depth=node.depth,
        node=node.fx.name,
        padding=_padding(node) if role == "lookup" else None,
        offset=_offset(meeting.source) if role == "gain" and meeting.source is not None else 0.0,
    )


#: Operators behind a softmax that leave its rows weights of an average, or a few of them.
_WEIGHTS_KEPT = (
    aten.RESHAPES
    | aten.ASSEMBLIES
    | {"aten.mul", "aten.div", "aten.relu", "aten._to_copy", "aten.to", "aten.clone", "aten.topk", "getitem"}
)


def _average_fans(tensor: Stored, meeting: Meeting, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A sum over experts that a softmax weighs is an average: that axis belongs to a stack of matrices."""
    contracted, fan_in = facts.get("contracted", ()), facts.get("fan_in")
    if len(tensor.shape) < 3 or len(contracted) < 2 or meeting.partner is None or not fan_in:
        return {}
    lengths = _softmax_lengths(meeting.partner)
    for axis in contracted[:-1]:
        if tensor.shape[axis] in lengths:
            return {
                "fan_in": fan_in // tensor.shape[axis],
                "contracted": tuple(a for a in contracted if a != axis),
                "stacked": (axis, *facts.get("stacked", ())),
            }
    return {}


def _softmax_lengths(data: NodeState) -> set[int]:
    """Lengths of the rows of the softmaxes that weigh some data."""
    lengths, stack, met = set(), [data], {data}
    while stack:
        node = stack.pop()
        if node.operator in aten.SOFTMAXES and node.shape:
            lengths.add(node.shape[argument(node.fx, "dim", -1)])
        elif node.operator in _WEIGHTS_KEPT:
            stack += [p for p in node.flowing if p not in met]
            met.update(node.flowing)
    return lengths


#: Operators that leave values as they are.
_MOVES = aten.RESHAPES | {"aten._to_copy", "aten.to", "aten.clone", "aten.detach", "aten.contiguous"}


def _offset(node: NodeState) -> float | None:
    """The number that was added to a stored tensor on its way to a node; None when more was done to it."""
    total = 0.0
    while node.fx.op == "call_function":
        if sum(isinstance(value, fx.Node) for value in node.fx.args) != 1 or len(node.inputs) != 1:
            return None
        if node.operator in ("aten.add", "aten.sub"):
            number = next((value for value in node.fx.args if isinstance(value, (int, float))), None)
            if number is None:
                return None
            total += number if node.operator == "aten.add" else -number
        elif node.operator not in _MOVES:
            return None
        node = node.inputs[0]
    return total


def _padding(node: NodeState) -> int | None:
    row = argument(node.fx, "padding_idx")
    return row if isinstance(row, int) and row >= 0 else None


_PRODUCT = ("fan_in", "fan_out", "contracted", "outputs", "stacked", "groups", "transposed")


def _role(tensor: Stored, meeting: Meeting) -> Any:
    """The role of a use, once it is known what the data is that a tensor multiplies or is added to.

    "gain" is the factor right after a normalisation that has none yet; any other factor of one element or
    one axis (LayerScale, temperatures, gates) is a "scalar". What varies along one axis only is added as a
    "shift", what varies along several as a "table".
    """
    role = meeting.role
    if role == "multiply" and _is_gain(meeting):
        role = "gain" if meeting.labelled else "scale"
    if role in ("multiply", "scale"):
        role = "scalar" if meeting.labelled <= 1 else "other"
    elif role == "add":
        size = prod(tensor.shape)
        role = "scalar" if size == 1 else "shift" if meeting.labelled == 1 else "table"
    elif role == "declared":
        role = "other"
    if tensor.parameter or role in ("matrix", "kernel", "lookup", "table", "shift"):
        return role
    return "state"


def _is_gain(meeting: Meeting) -> bool:
    """Whether a factor is the gain of a normalisation without weights just before, or of one after."""
    if meeting.node.gained:
        return True
    return meeting.partner is not None and meeting.partner.base.norm and not meeting.partner.base.weights


_PROJECTIONS = 3  # query, key and value; halves within a head are those of a rotary embedding


def _woven_parts(splits: Mapping[tuple[int, int], Set[tuple[int, int]]]) -> int:
    """Matrices fused head by head: each head of the outputs is split into equal pieces, all of them used."""
    for (_, size), pieces in splits.items():
        piece, rest = divmod(size, _PROJECTIONS)
        if not rest and pieces >= {(k * piece, piece) for k in range(_PROJECTIONS)}:
            return _PROJECTIONS
    return 1


def _parts(graph: GraphState, tensor: Stored, alike: Sequence[tuple[Use, Meeting]]) -> tuple[int, int | None]:
    """Equal matrices fused along the output axis, told by where weight or output is split; all outputs."""
    outputs = alike[0][0].outputs
    if len(outputs) != 1:
        return 1, None
    size = tensor.shape[outputs[0]]
    edges = graph.cuts.get(tensor.name, set())
    sliced = {edge for _, meeting in alike for edge in meeting.cuts}
    inner = sorted(edge for edge in edges | sliced if 0 < edge < size)
    total = size if any(0 < edge < size for edge in sliced) and alike[0][0].role == "matrix" else None
    if not inner or size % (len(inner) + 1):
        return 1, total
    piece = size // (len(inner) + 1)
    even = piece > 1 and all(edge == piece * (k + 1) for k, edge in enumerate(inner))
    return (len(inner) + 1 if even else 1), total


# ---------------------------------------------------------------- biases

#: Roles of what a bias belongs to. A normalisation has its gain in place of a weight.
_WEIGHTS = frozenset({"matrix", "kernel", "recurrent", "gain"})
_SPELLINGS = (("weight", "bias"), ("kernel", "bias"), ("W", "b"), ("w", "b"))  # of a weight's bias in names


def _paired(uses: Mapping[str, Use], nodes: Mapping[str, NodeFacts]) -> dict[str, Use]:
    """The uses, those of a weight with the name of its bias, those of a bias with that of its weight."""
    applied: dict[str, list[str]] = {}  # weights by the node that applies them
    for name, use in uses.items():
        if use.role in _WEIGHTS:
            applied.setdefault(use.node, []).append(name)
    shifts = ((name, use.node) for name, use in uses.items() if use.role == "shift" and use.node in nodes)
    weights = {name: weight for name, node in shifts if (weight := _weight(name, node, applied, nodes))}
    biases: dict[str, str] = {}
    for bias, weight in sorted(weights.items(), key=lambda pair: uses[pair[0]].node != uses[pair[1]].node):
        biases.setdefault(weight, bias)
    for weight in uses:
        if uses[weight].role in _WEIGHTS and weight not in biases:
            for bias in _spelled(weight):
                if bias in uses and bias not in weights and uses[bias].role not in _WEIGHTS:
                    biases[weight], weights[bias] = bias, weight
                    break
    return {name: replace(use, bias=biases.get(name), weight=weights.get(name)) for name, use in uses.items()}


def _weight(
    bias: str, node: str, applied: Mapping[str, Sequence[str]], nodes: Mapping[str, NodeFacts]
) -> str | None:
    """The weight to whose outputs a node adds a shift: at once, or with nothing computed between."""
    sources = nodes[node].flowing
    while node not in applied and len(sources) == 1:
        (node,) = sources
        sources = nodes[node].flowing if nodes[node].kind == "other" else ()
    found = applied.get(node, ())
    if len(found) > 1:  # fused recurrent layers, weights that are merged before they are applied
        found = [name for name in found if bias in _spelled(name)]
    return found[0] if len(found) == 1 else None


def _spelled(weight: str) -> Iterator[str]:
    """Names that the bias of a weight may have."""
    path, _, local = weight.rpartition(".")
    for word, bias in (*_SPELLINGS, (local, "bias")):
        if word in local:
            yield f"{path}.{local.replace(word, bias, 1)}".lstrip(".")
