"""What happens to the data between weights: activations, normalisations, residual additions, depth.

Two linear passes over a consumed graph, one along the data and one against it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from initlint.graph import aten
from initlint.graph.propagation import SPLITTING, argument
from initlint.graph.residuals import REARRANGED, gates, residuals
from initlint.graph.state import Consumption, Flow

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


def flow(seen: Consumption) -> Flow:
    """Follow the data through the graph."""
    count = len(seen.nodes)
    facts = Flow(
        depth=[0] * count,
        base=list(range(count)),
        activation=[None] * count,
        within=set(),
        norm=[False] * count,
        normalised=[False] * count,
        attention=[False] * count,
        following=["none"] * count,
        normalised_after=[False] * count,
        reaches_output=[False] * count,
        residual={},
        ends=set(),
        gains=set(),
    )
    _along(seen, facts)
    _against(seen, facts)
    residuals(seen, facts)
    return facts


# ---------------------------------------------------------------- along the data
def _along(seen: Consumption, facts: Flow) -> None:
    inner: dict[int, int] = {}  # activation -> the node whose elementwise function it is applied to
    moments: dict[int, tuple[int, bool]] = {}  # statistic of a node, and whether it is of the node's own unit
    scores: set[int] = set()  # attention weights
    for i, name in enumerate(seen.names):
        if not seen.data[i]:
            continue
        flowing = seen.flowing[i]
        facts.depth[i] = max((facts.depth[p] for p in seen.before[i]), default=0) + seen.contracts[i]
        if not flowing:
            if name in aten.DECISIONS and seen.before[i]:
                facts.base[i] = facts.base[seen.before[i][0]]
            continue
        if seen.contracts[i]:
            continue
        _rebase(seen, facts, i, name)
        _measure(seen, facts, moments, i, name)
        function = _activation(seen, i, name)
        if function is not None:
            inner[i] = facts.base[flowing[0]]
            facts.base[i], facts.activation[i] = i, function
        elif name in aten.NORMS:
            facts.norm[i] = True
        elif len(flowing) >= 2:
            _combine(seen, facts, inner, moments, i, name)
        _attend(seen, facts, scores, i, name)
        facts.normalised[i] = facts.norm[i] or _still_normalised(facts, flowing, name)


def _rebase(seen: Consumption, facts: Flow, i: int, name: str) -> None:
    """An elementwise function of one node, without stored tensors, keeps that node as its base."""
    flowing = seen.flowing[i]
    if name == "getitem":
        parent = seen.names[flowing[0]]
        if parent not in SPLITTING and seen.nodes[i].args[1] == 0:
            facts.base[i] = facts.base[flowing[0]]
        return
    if name not in REARRANGED and name not in aten.POINTWISE:
        return
    bases = {facts.base[p] for p in flowing}
    plain = name in REARRANGED or len(seen.nodes[i].all_input_nodes) == len(flowing)
    if len(bases) == 1 and plain:
        facts.base[i] = bases.pop()


def _activation(seen: Consumption, i: int, name: str) -> str | None:
    node = seen.nodes[i]
    if name in ("aten.clamp", "aten.clamp_min", "aten.hardtanh"):
        low = argument(node, "min", argument(node, "min_val"))
        high = argument(node, "max", argument(node, "max_val"))
        if low == 0 and high in (None, 6):
            return "relu" if high is None else "relu6"
        return "hardtanh" if name == "aten.hardtanh" else None
    if name in aten.SOFTMAXES:
        return "softmax"
    if name == "aten.elu" and isinstance(outer := argument(node, "scale"), float) and outer != 1:
        return "selu"
    return aten.ACTIVATIONS.get(name)


def _measure(seen: Consumption, facts: Flow, moments: dict[int, tuple[int, bool]], i: int, name: str) -> None:
    """Follow means, variances and norms of a node on their way back to it."""
    flowing = seen.flowing[i]
    known = [moments[p] for p in flowing if p in moments]
    if len(known) == len(flowing) and len({base for base, _ in known}) == 1:
        rooted = any(root for _, root in known) or name in _ROOTS
        if name == "aten.pow":
            exponent = argument(seen.nodes[i], "exponent")
            rooted = rooted or (isinstance(exponent, float) and abs(exponent) == 0.5)
        moments[i] = known[0][0], rooted
    elif name in _MOMENTS:
        moments[i] = facts.base[flowing[0]], name in _DEVIATIONS


def _combine(
    seen: Consumption,
    facts: Flow,
    inner: dict[int, int],
    moments: dict[int, tuple[int, bool]],
    i: int,
    name: str,
) -> None:
    """Activations and normalisations that are spelled out: x · f(x), x / norm(x), where(x > 0, x, a·x)."""
    flowing = seen.flowing[i]
    if name == "aten.where":
        bases = {facts.base[p] for p in seen.before[i]}
        base = facts.base[flowing[0]]
        if len(bases) == 1 and seen.names[seen.before[i][0]] in aten.DECISIONS:
            inner[i], facts.base[i], facts.activation[i] = base, i, "leaky_relu"
        return
    if len(flowing) != 2:
        return
    for x, other in (flowing, flowing[::-1]):
        base, gate = facts.base[x], facts.base[other]
        if name in aten.DIVISIONS and _is_gained(seen, facts, moments, x, other):
            facts.norm[i], facts.base[i] = True, i
            facts.gains.add(x)
            return
        if other in moments and moments[other][0] == base and x not in moments:
            if name in aten.ADDITIONS and not moments[other][1]:
                facts.base[i] = base
            elif name in aten.MULTIPLICATIONS | aten.DIVISIONS and moments[other][1]:
                facts.norm[i], facts.base[i] = True, i
            return
        function = facts.activation[gate]
        if name not in aten.MULTIPLICATIONS or function not in GATED:
            continue
        argument_base = inner.get(gate, -1)
        if argument_base != base and facts.activation[argument_base] == "softplus" and function == "tanh":
            facts.within.add(argument_base)
            argument_base, function = inner[argument_base], "softplus"
        if argument_base == base:
            facts.within.add(gate)
            gated = "gelu" if function == "sigmoid" and _quick(seen, gate) else GATED[function]
            facts.activation[i], facts.base[i], inner[i] = gated, i, base
            return


def _is_gained(
    seen: Consumption, facts: Flow, moments: dict[int, tuple[int, bool]], product: int, deviation: int
) -> bool:
    """`product` is gain · (x - mean), which the deviation of x is to divide."""
    factors = seen.flowing[product]
    return (
        seen.names[product] in aten.MULTIPLICATIONS
        and len(factors) == 1
        and len(seen.nodes[product].all_input_nodes) == 2
        and moments.get(deviation) == (facts.base[factors[0]], True)
    )


def _quick(seen: Consumption, gate: int) -> bool:
    """A sigmoid of 1.702 x: the sigmoid approximation of GELU (Hendrycks & Gimpel 2016, section 2)."""
    before = seen.nodes[seen.flowing[gate][0]]
    return any(isinstance(a, float) and abs(a - 1.702) < 1e-3 for a in before.args)


def _attend(seen: Consumption, facts: Flow, scores: set[int], i: int, name: str) -> None:
    flowing = seen.flowing[i]
    if name in aten.SOFTMAXES:
        scores.add(i)
    elif name in aten.ATTENTIONS:
        facts.attention[i] = True
    elif name in aten.CONTRACTIONS or name == "aten.einsum":
        facts.attention[i] = any(p in scores for p in flowing)
    elif any(p in scores for p in flowing) and (
        name in REARRANGED or name in aten.MULTIPLICATIONS or name == "getitem"
    ):
        scores.add(i)


def _still_normalised(facts: Flow, flowing: Sequence[int], name: str) -> bool:
    if len(flowing) > 1:
        # Masks, which no weight made, and gates leave the scale to the other operand.
        if name in aten.MULTIPLICATIONS:
            flowing = [p for p in flowing if facts.depth[p] and p not in gates(facts, flowing)]
        elif name in aten.ADDITIONS:
            flowing = [p for p in flowing if facts.depth[p]]
    return bool(flowing) and all(facts.normalised[p] for p in flowing)


# ---------------------------------------------------------------- against the data
def _against(seen: Consumption, facts: Flow) -> None:
    count = len(seen.nodes)
    users: list[list[int]] = [[] for _ in range(count)]
    for i in range(count):
        for p in seen.flowing[i]:
            users[p].append(i)
    feeds = [False] * count  # another weight follows
    attends = [False] * count  # takes part in attention before another weight
    settled: list[bool | None] = [None] * count
    for i in range(count - 1, -1, -1):
        if not users[i]:
            continue
        functions = [_met(seen, facts, i, u) for u in users[i]]
        facts.following[i] = next((f for f in functions if f != "none"), "none")
        settled[i] = _settled(seen, facts, settled, users[i])
        facts.normalised_after[i] = bool(settled[i])
        if not facts.attention[i] and not seen.contracts[i] and seen.names[i] in aten.CONTRACTIONS:
            facts.attention[i] = facts.following[i] == "softmax"
        feeds[i] = any(seen.contracts[u] or feeds[u] for u in users[i])
        attends[i] = any(
            facts.attention[u] or (attends[u] and not seen.contracts[u] and not facts.norm[u])
            for u in users[i]
        )
        facts.reaches_output[i] = not attends[i] and any(
            seen.nodes[u].op == "output"
            or (
                facts.reaches_output[u]
                and not seen.contracts[u]
                and not (feeds[u] and len(seen.flowing[u]) > 1)
            )
            for u in users[i]
        )


def _met(seen: Consumption, facts: Flow, i: int, user: int) -> str:
    """The activation that one user of node `i` leads to."""
    if seen.contracts[user] or seen.nodes[user].op == "output":
        return "none"
    function = facts.activation[user]
    if function is not None:
        if user in facts.within:
            return facts.following[user]
        return function
    if seen.names[user] in aten.ATTENTIONS and i in _queries_and_keys(seen, user):
        return "softmax"
    return facts.following[user]


def _queries_and_keys(seen: Consumption, i: int) -> list[int]:
    return [seen.position[n] for n in seen.nodes[i].args[:2] if isinstance(n, fx.Node)]


def _settled(
    seen: Consumption, facts: Flow, settled: Sequence[bool | None], users: Sequence[int]
) -> bool | None:
    """Whether all ways on meet a normalisation first; a stream that goes on is asked last."""
    branches: list[bool] = []
    stream: list[bool] = []
    for u in users:
        after = settled[u]
        if facts.norm[u]:
            after = True
        elif seen.contracts[u] or seen.nodes[u].op == "output":
            after = False
        if after is not None:
            merges = seen.names[u] in aten.ADDITIONS and len(seen.flowing[u]) > 1
            (stream if merges else branches).append(after)
    if branches:
        return all(branches)
    return any(stream) if stream else None
