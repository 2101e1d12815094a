"""What happens to the data between weights: activations, normalisations, residual additions, depth.

Two linear passes over a consumed graph, one along the data and one against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from initlint import vocabulary
from initlint.carry import SPLITTING, argument
from initlint.consumption import Consumption

#: Activations whose product with their own argument is another activation.
GATED = {
    "sigmoid": "silu",
    "tanh": "gelu",
    "erf": "gelu",
    "hardsigmoid": "hardswish",
    "relu6": "hardswish",
    "softplus": "mish",
}
#: Activations that scale what they gate but keep its direction.
BOUNDED = frozenset({"sigmoid", "hardsigmoid", "softmax", "tanh"})
_ROOTS = frozenset({"aten.sqrt", "aten.rsqrt"})
_DEVIATIONS = frozenset({"aten.std", "aten.std_mean", "aten.norm", "aten.linalg_vector_norm"})
_MOMENTS = _DEVIATIONS | frozenset({"aten.mean", "aten.sum", "aten.var", "aten.var_mean"})
_PIECES = SPLITTING | vocabulary.SELECTIONS
#: Operators that keep every element, if elsewhere.
_REARRANGED = vocabulary.UNARY | (vocabulary.RESHAPES - _PIECES - vocabulary.SLICES)
_PASSING = _REARRANGED | vocabulary.POOLINGS | vocabulary.ASSEMBLIES | frozenset(vocabulary.NORMS)


@dataclass(slots=True)
class Flow:
    """Facts about each data node, by position in the graph."""

    depth: list[int]  # weights on the longest path from an input up to and including the node
    base: list[int]  # the node of which this one is an elementwise function
    activation: list[str | None]  # the activation that the node computes
    within: set[int]  # activations that are only a part of another one
    norm: list[bool]  # the node normalises
    normalised: list[bool]  # no weight since the last normalisation
    attention: list[bool]  # computes or applies attention scores
    following: list[str]  # the activation met before the next weight, "none" if there is none
    normalised_after: list[bool]  # a normalisation is met before the next weight
    reaches_output: list[bool]  # leaves the model without another weight
    residual: dict[int, tuple[int, int]]  # residual additions: branch and stream
    ends: set[int]  # last weights of residual branches, with the gains and scales behind them
    gains: set[int]  # products with the gain of a normalisation that divides only afterwards


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
    _residuals(seen, facts)
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
            if name in vocabulary.DECISIONS and seen.before[i]:
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
        elif name in vocabulary.NORMS:
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
    if name not in _REARRANGED and name not in vocabulary.POINTWISE:
        return
    bases = {facts.base[p] for p in flowing}
    plain = name in _REARRANGED or len(seen.nodes[i].all_input_nodes) == len(flowing)
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
    if name in vocabulary.SOFTMAXES:
        return "softmax"
    if name == "aten.elu" and isinstance(outer := argument(node, "scale"), float) and outer != 1:
        return "selu"
    return vocabulary.ACTIVATIONS.get(name)


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
        if len(bases) == 1 and seen.names[seen.before[i][0]] in vocabulary.DECISIONS:
            inner[i], facts.base[i], facts.activation[i] = base, i, "leaky_relu"
        return
    if len(flowing) != 2:
        return
    for x, other in (flowing, flowing[::-1]):
        base, gate = facts.base[x], facts.base[other]
        if name in vocabulary.DIVISIONS and _is_gained(seen, facts, moments, x, other):
            facts.norm[i], facts.base[i] = True, i
            facts.gains.add(x)
            return
        if other in moments and moments[other][0] == base and x not in moments:
            if name in vocabulary.ADDITIONS and not moments[other][1]:
                facts.base[i] = base
            elif name in vocabulary.MULTIPLICATIONS | vocabulary.DIVISIONS and moments[other][1]:
                facts.norm[i], facts.base[i] = True, i
            return
        function = facts.activation[gate]
        if name not in vocabulary.MULTIPLICATIONS or function not in GATED:
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
        seen.names[product] in vocabulary.MULTIPLICATIONS
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
    if name in vocabulary.SOFTMAXES:
        scores.add(i)
    elif name in vocabulary.ATTENTIONS:
        facts.attention[i] = True
    elif name in vocabulary.CONTRACTIONS or name == "aten.einsum":
        facts.attention[i] = any(p in scores for p in flowing)
    elif any(p in scores for p in flowing) and (
        name in _REARRANGED or name in vocabulary.MULTIPLICATIONS or name == "getitem"
    ):
        scores.add(i)


def _still_normalised(facts: Flow, flowing: Sequence[int], name: str) -> bool:
    if len(flowing) > 1:
        # Masks, which no weight made, and gates leave the scale to the other operand.
        if name in vocabulary.MULTIPLICATIONS:
            flowing = [p for p in flowing if facts.depth[p] and p not in _gates(facts, flowing)]
        elif name in vocabulary.ADDITIONS:
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
        if not facts.attention[i] and not seen.contracts[i] and seen.names[i] in vocabulary.CONTRACTIONS:
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
    if seen.names[user] in vocabulary.ATTENTIONS and i in _queries_and_keys(seen, user):
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
            merges = seen.names[u] in vocabulary.ADDITIONS and len(seen.flowing[u]) > 1
            (stream if merges else branches).append(after)
    if branches:
        return all(branches)
    return any(stream) if stream else None


# ---------------------------------------------------------------- residual additions


def _residuals(seen: Consumption, facts: Flow) -> None:
    """Find additions of which one operand is an ancestor of the other, if need be before one projection."""
    sums = {i: pair for i in range(len(seen.nodes)) if (pair := _summands(seen, i)) is not None}
    stems = {p: _stems(seen, facts, p) for pair in sums.values() for p in pair}
    bits: dict[int, int] = {}
    for near, far in stems.values():
        for p in (*near, *far):
            bits.setdefault(p, 1 << len(bits))
    last = {p: i for i in range(len(seen.nodes)) for p in seen.flowing[i]}
    ancestors = [0] * len(seen.nodes)
    for i, flowing in enumerate(seen.flowing):
        if i in sums:
            _test_sum(seen, facts, i, sums[i], stems, bits, ancestors)
        reach = 0
        for p in flowing:
            reach |= ancestors[p] | bits.get(p, 0)
        ancestors[i] = reach
        for p in flowing:
            if last[p] == i:
                ancestors[p] = 0


def _summands(seen: Consumption, i: int) -> tuple[int, int] | None:
    """The two data operands of an addition; for `addmm(data, …)` the second is the node itself."""
    name, flowing = seen.names[i], seen.flowing[i]
    if name in vocabulary.BIASED and seen.contracts[i] and len(flowing) == 2:
        return flowing[0], flowing[1]
    if name == "aten.addcmul" and len(flowing) >= 2:
        return flowing[0], flowing[-1]
    if name in vocabulary.ADDITIONS and name != "aten.sub" and len(flowing) == 2:
        return flowing[0], flowing[1]
    return None


def _stems(seen: Consumption, facts: Flow, operand: int) -> tuple[list[int], list[int]]:
    """Nodes that an operand is, or projects with one weight: itself and what only rearranges or scales it."""
    near: list[int] = [operand]
    far: list[int] = []
    i, found = operand, near
    for _ in range(24):
        flowing = seen.flowing[i]
        if len(flowing) != 1 or (seen.contracts[i] and found is far):
            break
        name = seen.names[i]
        if seen.contracts[i]:
            found = far
        elif not _passes(seen, facts, i, name, slices=found is near):
            break
        i = flowing[0]
        found.append(i)
    return near, far


def _passes(seen: Consumption, facts: Flow, i: int, name: str, *, slices: bool) -> bool:
    """What leaves the node is what came in, rearranged, rescaled or activated."""
    if name == "getitem":
        parent = seen.names[seen.flowing[i][0]]
        return parent not in SPLITTING
    if name in vocabulary.SLICES:
        return slices
    if name in _PASSING or facts.activation[i] is not None or facts.norm[i]:
        return facts.activation[i] != "softmax"
    return name in vocabulary.POINTWISE or name in vocabulary.REDUCTIONS


def _test_sum(
    seen: Consumption,
    facts: Flow,
    i: int,
    pair: tuple[int, int],
    stems: dict[int, tuple[list[int], list[int]]],
    bits: dict[int, int],
    ancestors: list[int],
) -> None:
    for branch, stream in (pair, pair[::-1]):
        near, far = stems[stream]
        source = next((p for p in near if ancestors[branch] & bits[p]), None)
        if source is not None and facts.depth[branch] > facts.depth[source]:
            ends = _ends(seen, facts, branch, i, source)
            if any(seen.contracts[end] for end in ends) or (
                facts.following[i] != "softmax" and _same_shape(seen, branch, stream)
            ):
                facts.residual[i] = branch, stream
                facts.ends |= ends
                return
        if source is not None and facts.depth[branch] == facts.depth[source]:
            facts.ends |= _ends(seen, facts, branch, i, source)  # scales what it adds: x + gain · norm(x)
    for branch, stream in (pair, pair[::-1]):
        far = stems[stream][1]
        source = next((p for p in far if ancestors[branch] & bits[p]), None)
        if source is not None and facts.depth[branch] >= facts.depth[source] + 2:
            facts.residual[i] = branch, stream
            facts.ends |= _ends(seen, facts, branch, i) | _ends(seen, facts, stream, i)
            return


def _same_shape(seen: Consumption, first: int, second: int) -> bool:
    shapes = seen.nodes[first].meta.get("shape"), seen.nodes[second].meta.get("shape")
    return None in shapes or shapes[0] == shapes[1]


def _ends(seen: Consumption, facts: Flow, branch: int, addition: int, source: int | None = None) -> set[int]:
    """The last weights of a branch that starts at `source`, with the gains and scales behind them."""
    if seen.contracts[addition]:
        return {addition}
    ends: set[int] = set()
    queue, visited = [branch], {branch, source}
    while queue and len(visited) < 256:
        i = queue.pop()
        name, flowing = seen.names[i], seen.flowing[i]
        if seen.weights[i]:
            ends.add(i)
        if seen.contracts[i] or i in facts.residual or not _passes(seen, facts, i, name, slices=True):
            continue
        if name in vocabulary.MULTIPLICATIONS and len(flowing) == 2:
            flowing = tuple(p for p in flowing if p not in _gates(facts, flowing))
        for p in flowing:
            if p not in visited:
                visited.add(p)
                queue.append(p)
    return ends


def _gates(facts: Flow, flowing: Sequence[int]) -> list[int]:
    """The operands of a product that only scale it."""
    return [p for p in flowing if facts.activation[facts.base[p]] in BOUNDED]
