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
from initlint.graph.activations import flow
from initlint.graph.declared_roles import declared_uses
from initlint.graph.pairing import paired
from initlint.graph.propagation import argument
from initlint.graph.state import Consumption, Flow, Meeting, Stored
from initlint.graph.walk import consume
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
    """Read the graph; without one, only what the torch.nn layers say by their class."""
    declared = declared_uses(model)
    if trace.graph is None:
        return Usage(uses=paired(declared, {}))
    seen = consume(trace.graph, _stored(model, declared))
    facts = flow(seen)
    wires = Wires(seen, facts)
    nodes = {
        seen.nodes[i].name: _facts(seen, facts, wires, i) for i in range(len(seen.nodes)) if seen.data[i]
    }
    return Usage(
        uses=paired(dict(_uses(seen, facts, wires)), nodes),
        nodes=nodes,
        outputs=tuple(seen.nodes[i].name for i in seen.outputs if seen.data[i]),
    )


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


def _facts(seen: Consumption, facts: Flow, wires: Wires, i: int) -> NodeFacts:
    branch, stream = facts.residual.get(i, (None, None))
    return NodeFacts(
        kind=_kind(seen, facts, i),
        depth=facts.depth[i],
        weights=tuple(dict.fromkeys(seen.weights[i])),
        residual=i in facts.residual,
        stream=seen.nodes[stream].name if stream is not None else None,
        branch_first=branch is not None and seen.flowing[i][:1] == (branch,),
        flowing=tuple(seen.nodes[p].name for p in seen.flowing[i]),
        summands=wires.summands(i),
    )


def _kind(seen: Consumption, facts: Flow, i: int) -> SignalKind:
    name = seen.names[i]
    if seen.nodes[i].op != "call_function":
        return "input" if seen.nodes[i].op == "placeholder" else "output"
    if seen.contracts[i]:
        return "weight"
    if facts.norm[i]:
        return "norm"
    if name in aten.SOFTMAXES:
        return "softmax"
    if facts.activation[i] is not None and i not in facts.within:
        return "activation"
    if facts.attention[i]:
        return "attention"
    if name in aten.ADDITIONS and len(seen.flowing[i]) > 1:
        return "add"
    return "other"


# ---------------------------------------------------------------- tensors


def _uses(seen: Consumption, facts: Flow, wires: Wires) -> Iterator[tuple[str, Use]]:
    met: dict[str, list[Meeting]] = {}
    for meeting in seen.meetings:
        met.setdefault(meeting.tensor, []).append(meeting)
    for node in seen.nodes:
        if node.op == "get_attr" and (tensor := seen.stored.get(str(node.target))) is not None:
            meetings = met.get(tensor.name)
            use = _use(seen, facts, wires, tensor, meetings) if meetings else _unmet(seen, tensor, node)
            yield tensor.name, use


def _unmet(seen: Consumption, tensor: Stored, node: Any) -> Use:
    """A tensor that the graph reads but that never meets data."""
    user = next(iter(node.users), node)
    name = aten.operation(user.target) if user.op == "call_function" else user.op
    role = _lone(tensor) if tensor.parameter else "state"
    return Use(role=role, operation=name, module=user.meta.get("module") or "", node=user.name)


def _lone(tensor: Stored) -> Literal["scalar", "other"]:
    return "scalar" if prod(tensor.shape) == 1 else "other"


def _use(seen: Consumption, facts: Flow, wires: Wires, tensor: Stored, meetings: Sequence[Meeting]) -> Use:
    uses = [(_one_use(seen, facts, tensor, meeting), meeting) for meeting in meetings]
    uses.sort(key=lambda pair: PRECEDENCE.index(pair[0].role))
    first = uses[0][0]
    alike = [(use, meeting) for use, meeting in uses if use.role == first.role]
    activations = [use.activation for use, _ in alike]
    parts, outputs = _parts(seen, tensor, alike)
    return replace(
        first,
        activation=next((a for a in activations if a not in (None, "none")), activations[0]),
        fan_out=outputs or first.fan_out,
        parts=max(parts, first.parts),
        woven=_woven(seen.woven.get(tensor.name, {})) if len(first.outputs) == 1 else 1,
        lookup_too=first.role in PRECEDENCE[:3] and any(use.role == "lookup" for use, _ in uses),
        ends_residual=any(use.ends_residual for use, _ in alike),
        reaches_output=any(use.reaches_output for use, _ in alike),
        uses=len({meeting.node for meeting in meetings}),
        wiring=wires.wiring(alike[0][1], max(parts, first.parts)),
    )


def _one_use(seen: Consumption, facts: Flow, tensor: Stored, meeting: Meeting) -> Use:
    i = meeting.node
    role = _role(seen, facts, tensor, meeting)
    given: dict[str, Any] = {}
    declared = tensor.declared
    if declared is not None and (role == "other" or "recurrent" in (role, declared.role)):
        role = declared.role
        given = {key: getattr(declared, key) for key in (*_PRODUCT, "parts")}
    elif declared is not None and role == declared.role:
        given["parts"] = declared.parts
    elif role == "recurrent":
        role = "other"
    given |= {key: value for key, value in meeting.facts.items() if key in _PRODUCT}
    if role == "matrix":
        given |= _averaged(seen, tensor, meeting, given)
    node = seen.nodes[i]
    flows = node.op == "call_function"
    activation = facts.following[i] if flows else None
    if declared is not None and role == "recurrent":
        activation = declared.activation
    return Use(
        role=role,
        operation=seen.names[i],
        module=node.meta.get("module") or "",
        **given,
        activation=activation,
        normalised_before=meeting.partner is not None and facts.normalised[meeting.partner],
        normalised_after=facts.normalised_after[i],
        ends_residual=i in facts.ends,
        reaches_output=facts.reaches_output[i] or not flows,
        depth=facts.depth[i],
        node=node.name,
        padding=_padding(node) if role == "lookup" else None,
        offset=_offset(seen, meeting.source) if role == "gain" and meeting.source is not None else 0.0,
    )


#: Operators behind a softmax that leave its rows weights of an average, or a few of them.
_WEIGHTS_KEPT = (
    aten.RESHAPES
    | aten.ASSEMBLIES
    | {"aten.mul", "aten.div", "aten.relu", "aten._to_copy", "aten.to", "aten.clone", "aten.topk", "getitem"}
)


def _averaged(
    seen: Consumption, tensor: Stored, meeting: Meeting, given: Mapping[str, Any]
) -> dict[str, Any]:
    """A sum over experts that a softmax weighs is an average: that axis belongs to a stack of matrices."""
    contracted, fan_in = given.get("contracted", ()), given.get("fan_in")
    if len(tensor.shape) < 3 or len(contracted) < 2 or meeting.partner is None or not fan_in:
        return {}
    rows, stack, met = set(), [meeting.partner], {meeting.partner}
    while stack:
        i = stack.pop()
        shape = seen.shape(i)
        if seen.names[i] in aten.SOFTMAXES and shape:
            rows.add(shape[argument(seen.nodes[i], "dim", -1)])
        elif seen.names[i] in _WEIGHTS_KEPT:
            stack += [p for p in seen.flowing[i] if p not in met]
            met.update(seen.flowing[i])
    for axis in contracted[:-1]:
        if tensor.shape[axis] in rows:
            return {
                "fan_in": fan_in // tensor.shape[axis],
                "contracted": tuple(a for a in contracted if a != axis),
                "stacked": (axis, *given.get("stacked", ())),
            }
    return {}


def _offset(seen: Consumption, i: int) -> float | None:
    """The number that was added to a stored tensor on its way to node `i`; None when more was done to it."""
    total = 0.0
    while (node := seen.nodes[i]).op == "call_function":
        name, sources = seen.names[i], [value for value in node.args if isinstance(value, fx.Node)]
        if len(sources) != 1:
            return None
        if name in ("aten.add", "aten.sub", "aten.rsub"):
            number = next((value for value in node.args if isinstance(value, (int, float))), None)
            if number is None or name == "aten.rsub":
                return None
            total += number if name == "aten.add" else -number
        elif name not in _MOVES:
            return None
        i = seen.position[sources[0]]
    return total


#: Operators that leave values as they are.
_MOVES = aten.RESHAPES | {"aten._to_copy", "aten.to", "aten.clone", "aten.detach", "aten.contiguous"}


def _padding(node: Any) -> int | None:
    row = argument(node, "padding_idx")
    return row if isinstance(row, int) and row >= 0 else None


_PRODUCT = ("fan_in", "fan_out", "contracted", "outputs", "stacked", "groups", "transposed")


def _role(seen: Consumption, facts: Flow, tensor: Stored, meeting: Meeting) -> Any:
    """The role of a use, once it is known what the data is that a tensor multiplies or is added to.

    "gain" is the factor right after a normalisation that has none yet; any other factor of one element or
    one axis (LayerScale, temperatures, gates) is a "scalar". What varies along one axis only is added as a
    "shift", what varies along several as a "table".
    """
    role = meeting.role
    if role == "multiply" and meeting.node in facts.gains:
        role = "gain" if meeting.labelled else "scale"
    if role == "multiply" and meeting.partner is not None:
        norm = facts.base[meeting.partner]
        if facts.norm[norm] and not seen.weights[norm]:
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


_PROJECTIONS = 3  # query, key and value; halves within a head are those of a rotary embedding


def _woven(splits: Mapping[tuple[int, int], Set[tuple[int, int]]]) -> int:
    """Matrices fused head by head: each head of the outputs is split into equal pieces, all of them used."""
    for (_, size), pieces in splits.items():
        piece, rest = divmod(size, _PROJECTIONS)
        if not rest and pieces >= {(k * piece, piece) for k in range(_PROJECTIONS)}:
            return _PROJECTIONS
    return 1


def _parts(seen: Consumption, tensor: Stored, alike: Sequence[tuple[Use, Meeting]]) -> tuple[int, int | None]:
    """Equal matrices fused along the output axis, told by where weight or output is split; all outputs."""
    outputs = alike[0][0].outputs
    if len(outputs) != 1:
        return 1, None
    size = tensor.shape[outputs[0]]
    edges = set(seen.cuts.get(tensor.name, ()))
    sliced = {edge for _, meeting in alike for edge in meeting.cuts}
    inner = sorted(edge for edge in edges | sliced if 0 < edge < size)
    total = size if any(0 < edge < size for edge in sliced) and alike[0][0].role == "matrix" else None
    if not inner or size % (len(inner) + 1):
        return 1, total
    piece = size // (len(inner) + 1)
    even = piece > 1 and all(edge == piece * (k + 1) for k, edge in enumerate(inner))
    return (len(inner) + 1 if even else 1), total
