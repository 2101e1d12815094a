"""Residual additions, and the branches that end in them."""

from __future__ import annotations

from collections.abc import Sequence

from initlint.graph import aten
from initlint.graph.propagation import SPLITTING
from initlint.graph.state import Consumption, Flow

#: Activations that scale what they gate but keep its direction.
BOUNDED = frozenset({"sigmoid", "hardsigmoid", "softmax", "tanh"})
_PIECES = SPLITTING | aten.SELECTIONS

#: Operators that keep every element, if elsewhere.
REARRANGED = aten.UNARY | (aten.RESHAPES - _PIECES - aten.SLICES)
_PASSING = REARRANGED | aten.POOLINGS | aten.ASSEMBLIES | frozenset(aten.NORMS)


# ---------------------------------------------------------------- residual additions
def residuals(seen: Consumption, facts: Flow) -> None:
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
    if name in aten.BIASED and seen.contracts[i] and len(flowing) == 2:
        return flowing[0], flowing[1]
    if name == "aten.addcmul" and len(flowing) >= 2:
        return flowing[0], flowing[-1]
    if name in aten.ADDITIONS and name != "aten.sub" and len(flowing) == 2:
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
    if name in aten.SLICES:
        return slices
    if name in _PASSING or facts.activation[i] is not None or facts.norm[i]:
        return facts.activation[i] != "softmax"
    return name in aten.POINTWISE or name in aten.REDUCTIONS


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
        if name in aten.MULTIPLICATIONS and len(flowing) == 2:
            flowing = tuple(p for p in flowing if p not in gates(facts, flowing))
        for p in flowing:
            if p not in visited:
                visited.add(p)
                queue.append(p)
    return ends


def gates(facts: Flow, flowing: Sequence[int]) -> list[int]:
    """The operands of a product that only scale it."""
    return [p for p in flowing if facts.activation[facts.base[p]] in BOUNDED]
