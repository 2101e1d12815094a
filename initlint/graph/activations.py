"""What happens to the data between weights: activations, normalisations, attention, depth.

Two linear passes over a graph that was walked, one along the data and one against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch.fx import Node

from initlint.graph import aten
from initlint.graph.propagation import SPLITTING, argument
from initlint.graph.residuals import REARRANGED, gates
from initlint.graph.state import GraphState, NodeState

#: Activations whose product with their own argument is another activation.
GATED = {
    "sigmoid": "silu",
    "tanh": "gelu",
    "erf": "gelu",
    "hardsigmoid": "hardswish",
    "relu6": "hardswish",
    "softplus": "mish",
}

_ROOTS = frozenset({"aten.sqrt", "aten.rsqrt"})
_DEVIATIONS = frozenset({"aten.std", "aten.std_mean", "aten.norm", "aten.linalg_vector_norm"})
_MOMENTS = _DEVIATIONS | frozenset({"aten.mean", "aten.sum", "aten.var", "aten.var_mean"})
_PRODUCTS = aten.CONTRACTIONS | {"aten.einsum"}


# ---------------------------------------------------------------- along the data


@dataclass(slots=True)
class _Along:
    """What only this pass needs to know."""

    inner: dict[NodeState, NodeState] = field(default_factory=dict)  # activation -> base of its argument
    #: Statistic of a node -> that node, and whether the statistic is of the node's own unit.
    moments: dict[NodeState, tuple[NodeState, bool]] = field(default_factory=dict)
    scores: set[NodeState] = field(default_factory=set)  # attention weights


def find_activations(graph: GraphState) -> None:
    """Find activations, normalisations and attention, and count the weights before each node."""
    known = _Along()
    for node in graph.nodes:
        if not node.data:
            continue
        node.depth = max((p.depth for p in node.before), default=0) + node.contracts
        if not node.flowing:
            if node.operator in aten.DECISIONS and node.before:
                node.base = node.before[0].base
        elif not node.contracts:
            _classify(node, known)


def _classify(node: NodeState, known: _Along) -> None:
    """What a node without a weight of its own does to the data."""
    node.base = _base(node)
    _measure(node, known)
    function = _function(node)
    if function is not None:
        known.inner[node] = node.flowing[0].base
        node.base, node.activation = node, function
    elif node.operator in aten.NORMS:
        node.norm = True
    elif node.operator == "aten.where":
        _combine_branches(node, known)
    elif len(node.flowing) == 2:
        _combine(node, known)
    _attend(node, known)
    node.normalised = node.norm or _is_still_normalised(node)


def _base(node: NodeState) -> NodeState:
    """The base of the one node of which this one is an elementwise function, without stored tensors."""
    name, flowing = node.operator, node.flowing
    if name == "getitem":
        first = flowing[0].operator not in SPLITTING and node.fx.args[1] == 0
        return flowing[0].base if first else node
    bases = {p.base for p in flowing}
    plain = name in REARRANGED or (name in aten.POINTWISE and len(node.inputs) == len(flowing))
    return bases.pop() if plain and len(bases) == 1 else node


def _function(node: NodeState) -> str | None:
    """The activation that one operator computes."""
    name = node.operator
    if name in ("aten.clamp", "aten.clamp_min", "aten.hardtanh"):
        low = argument(node.fx, "min", argument(node.fx, "min_val"))
        high = argument(node.fx, "max", argument(node.fx, "max_val"))
        if low == 0 and high in (None, 6):
            return "relu" if high is None else "relu6"
        return "hardtanh" if name == "aten.hardtanh" else None
    if name == "aten.elu" and isinstance(outer := argument(node.fx, "scale"), float) and outer != 1:
        return "selu"
    return aten.activation(name)


def _measure(node: NodeState, known: _Along) -> None:
    """Follow means, variances and norms of a node on their way back to it."""
    name, flowing = node.operator, node.flowing
    moments = [known.moments[p] for p in flowing if p in known.moments]
    if len(moments) == len(flowing) and len({base for base, _ in moments}) == 1:
        rooted = any(root for _, root in moments) or name in _ROOTS
        if name == "aten.pow":
            exponent = argument(node.fx, "exponent")
            rooted = rooted or (isinstance(exponent, float) and abs(exponent) == 0.5)
        known.moments[node] = moments[0][0], rooted
    elif name in _MOMENTS:
        known.moments[node] = flowing[0].base, name in _DEVIATIONS


def _combine_branches(node: NodeState, known: _Along) -> None:
    """where(x > 0, x, a·x)."""
    bases = {p.base for p in node.before}
    if len(node.flowing) >= 2 and len(bases) == 1 and node.before[0].operator in aten.DECISIONS:
        known.inner[node] = node.flowing[0].base
        node.base, node.activation = node, "leaky_relu"


def _combine(node: NodeState, known: _Along) -> None:
    """Activations and normalisations that are spelled out with two operands: x · f(x), x / norm(x)."""
    name, moments = node.operator, known.moments
    for x, other in (node.flowing, node.flowing[::-1]):
        if name in aten.DIVISIONS and _is_gained(x, other, known):
            node.norm, node.base, x.gained = True, node, True
            return
        if other in moments and moments[other][0] is x.base and x not in moments:
            if name in aten.ADDITIONS and not moments[other][1]:
                node.base = x.base
            elif name in aten.MULTIPLICATIONS | aten.DIVISIONS and moments[other][1]:
                node.norm, node.base = True, node
            return
        if name in aten.MULTIPLICATIONS and _is_gated(node, x, other.base, known):
            return


def _is_gained(product: NodeState, deviation: NodeState, known: _Along) -> bool:
    """Whether `product` is gain · (x - mean), which the deviation of x is to divide."""
    return (
        product.operator in aten.MULTIPLICATIONS
        and len(product.flowing) == 1
        and len(product.inputs) == 2
        and known.moments.get(deviation) == (product.flowing[0].base, True)
    )


def _is_gated(node: NodeState, x: NodeState, gate: NodeState, known: _Along) -> bool:
    """Whether the product of `x` with a gate is an activation of `x`; it is noted then."""
    function = gate.activation
    if function not in GATED:
        return False
    inner = known.inner.get(gate)
    if inner is not None and inner is not x.base and inner.activation == "softplus" and function == "tanh":
        inner.partial = True
        inner, function = known.inner[inner], "softplus"
    if inner is not x.base:
        return False
    gate.partial = True
    node.activation = "gelu" if function == "sigmoid" and _is_quick(gate) else GATED[function]
    node.base, known.inner[node] = node, inner
    return True


def _is_quick(gate: NodeState) -> bool:
    """Whether a sigmoid is of 1.702 x: an approximation of GELU (Hendrycks & Gimpel 2016, section 2)."""
    return any(isinstance(a, float) and abs(a - 1.702) < 1e-3 for a in gate.flowing[0].fx.args)


def _attend(node: NodeState, known: _Along) -> None:
    """Note what computes or applies attention weights, and where the weights go."""
    name = node.operator
    scored = any(p in known.scores for p in node.flowing)
    if name in aten.SOFTMAXES:
        known.scores.add(node)
    elif name in aten.ATTENTIONS:
        node.attention = True
    elif name in _PRODUCTS:
        node.attention = scored
    elif scored and (name in REARRANGED or name in aten.MULTIPLICATIONS or name == "getitem"):
        known.scores.add(node)


def _is_still_normalised(node: NodeState) -> bool:
    flowing: Sequence[NodeState] = node.flowing
    if len(flowing) > 1:
        # Masks, which no weight made, and gates leave the scale to the other operand.
        if node.operator in aten.MULTIPLICATIONS:
            flowing = [p for p in flowing if p.depth and p not in gates(flowing)]
        elif node.operator in aten.ADDITIONS:
            flowing = [p for p in flowing if p.depth]
    return bool(flowing) and all(p.normalised for p in flowing)


# ---------------------------------------------------------------- against the data


def find_following(graph: GraphState) -> None:
    """Find what each node meets before the next weight: an activation, a normalisation, the output."""
    users: dict[NodeState, list[NodeState]] = {node: [] for node in graph.nodes}
    for node in graph.nodes:
        for p in node.flowing:
            users[p].append(node)
    feeds: set[NodeState] = set()  # another weight follows
    attends: set[NodeState] = set()  # takes part in attention before another weight
    settled: dict[NodeState, bool] = {}  # whether a normalisation comes first, where anything is met
    for node in reversed(graph.nodes):
        after = users[node]
        if not after:
            continue
        met = [_activation_met(graph, node, user) for user in after]
        node.following = next((name for name in met if name != "none"), "none")
        first = _is_normalised_first(settled, after)
        if first is not None:
            settled[node] = node.normalised_after = first
        if not node.attention and not node.contracts and node.operator in aten.CONTRACTIONS:
            node.attention = node.following == "softmax"
        if any(u.contracts or u in feeds for u in after):
            feeds.add(node)
        if any(u.attention or (u in attends and not u.contracts and not u.norm) for u in after):
            attends.add(node)
        node.reaches_output = node not in attends and any(_leads_out(u, u in feeds) for u in after)


def _leads_out(user: NodeState, feeds: bool) -> bool:
    """Whether what a node uses leaves the model there, or beyond it, without another weight."""
    if user.fx.op == "output":
        return True
    return user.reaches_output and not user.contracts and not (feeds and len(user.flowing) > 1)


def _activation_met(graph: GraphState, node: NodeState, user: NodeState) -> str:
    """The activation that one user of a node leads to."""
    if user.contracts or user.fx.op == "output":
        return "none"
    if user.activation is not None and not user.partial:
        return user.activation
    if user.activation is None and user.operator in aten.ATTENTIONS:
        queries_and_keys = [graph[n] for n in user.fx.args[:2] if isinstance(n, Node)]
        if node in queries_and_keys:
            return "softmax"
    return user.following


def _is_normalised_first(settled: dict[NodeState, bool], users: Sequence[NodeState]) -> bool | None:
    """Whether all ways on meet a normalisation first; a stream that goes on is asked last."""
    branches: list[bool] = []
    stream: list[bool] = []
    for u in users:
        after = True if u.norm else False if u.contracts or u.fx.op == "output" else settled.get(u)
        if after is not None:
            merges = u.operator in aten.ADDITIONS and len(u.flowing) > 1
            (stream if merges else branches).append(after)
    if branches:
        return all(branches)
    return any(stream) if stream else None
