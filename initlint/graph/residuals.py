"""Residual additions, and the branches that end in them."""

from __future__ import annotations

from collections.abc import Sequence

from initlint.graph import aten
from initlint.graph.propagation import SPLITTING
from initlint.graph.state import GraphState, NodeState

#: Activations that scale what they gate but keep its direction.
BOUNDED = frozenset({"sigmoid", "hardsigmoid", "softmax", "tanh"})
_PIECES = SPLITTING | aten.SELECTIONS

#: Operators that keep every element, if elsewhere.
REARRANGED = aten.UNARY | (aten.RESHAPES - _PIECES - aten.SLICES)
_PASSING = REARRANGED | aten.POOLINGS | aten.ASSEMBLIES | frozenset(aten.NORMS)

_LONG = 24  # operators between an addition and the stem of one of its operands
_LARGE = 256  # nodes of a branch that are looked at

#: Nodes that an operand is, and nodes that it projects with one weight.
Stems = tuple[list[NodeState], list[NodeState]]


def find_residuals(graph: GraphState) -> None:
    """Find additions of which one operand is an ancestor of the other, if need be before one projection."""
    sums = {node: pair for node in graph.nodes if (pair := _summands(node)) is not None}
    stems = {p: _stems(p) for pair in sums.values() for p in pair}
    bits: dict[NodeState, int] = {}
    for near, far in stems.values():
        for p in (*near, *far):
            bits.setdefault(p, 1 << len(bits))
    last = {p: node for node in graph.nodes for p in node.flowing}
    ancestors: dict[NodeState, int] = {}  # the bits of the stems behind each node that is still in use
    for node in graph.nodes:
        if node in sums:
            _test_sum(node, sums[node], stems, bits, ancestors)
        reach = 0
        for p in node.flowing:
            reach |= ancestors[p] | bits.get(p, 0)
        ancestors[node] = reach
        for p in node.flowing:
            if last[p] is node:
                del ancestors[p]


def _summands(node: NodeState) -> tuple[NodeState, NodeState] | None:
    """The two data operands of an addition; of a product with data as bias, the bias and the factor."""
    name, flowing = node.operator, node.flowing
    if name == "aten.addcmul" and len(flowing) >= 2:
        return flowing[0], flowing[-1]
    added = name in aten.ADDITIONS and name != "aten.sub"
    if len(flowing) == 2 and (added or (name in aten.BIASED and node.contracts)):
        return flowing[0], flowing[1]
    return None


def _stems(operand: NodeState) -> Stems:
    """Nodes that an operand is, or projects with one weight: itself and what only rearranges or scales it."""
    near: list[NodeState] = [operand]
    far: list[NodeState] = []
    node, found = operand, near
    for _ in range(_LONG):
        if len(node.flowing) != 1 or (node.contracts and found is far):
            break
        if node.contracts:
            found = far
        elif not _passes(node, slices=found is near):
            break
        node = node.flowing[0]
        found.append(node)
    return near, far


def _passes(node: NodeState, *, slices: bool) -> bool:
    """Whether what leaves the node is what came in, rearranged, rescaled or activated."""
    name = node.operator
    if name == "getitem":
        return node.flowing[0].operator not in SPLITTING
    if name in aten.SLICES:
        return slices
    if name in _PASSING or node.activation is not None or node.norm:
        return node.activation != "softmax"
    return name in aten.POINTWISE or name in aten.REDUCTIONS


def _test_sum(
    node: NodeState,
    pair: tuple[NodeState, NodeState],
    stems: dict[NodeState, Stems],
    bits: dict[NodeState, int],
    ancestors: dict[NodeState, int],
) -> None:
    """Note whether an addition is residual: its stream is the source of its branch, or a projection of it."""
    for branch, stream in (pair, pair[::-1]):
        source = next((p for p in stems[stream][0] if ancestors[branch] & bits[p]), None)
        if source is None or branch.depth < source.depth:
            continue
        ends = _ends(node, branch, source)
        deeper = branch.depth > source.depth
        if deeper and (
            any(end.contracts for end in ends)
            or (node.following != "softmax" and _is_same_shape(branch, stream))
        ):
            node.residual = branch, stream
            _mark_ends(ends)
            return
        if not deeper:
            _mark_ends(ends)  # scales what it adds: x + gain · norm(x)
    for branch, stream in (pair, pair[::-1]):
        source = next((p for p in stems[stream][1] if ancestors[branch] & bits[p]), None)
        if source is not None and branch.depth >= source.depth + 2:
            node.residual = branch, stream
            _mark_ends(_ends(node, branch) | _ends(node, stream))
            return


def _is_same_shape(first: NodeState, second: NodeState) -> bool:
    shapes = first.fx.meta.get("shape"), second.fx.meta.get("shape")
    return None in shapes or shapes[0] == shapes[1]


def _mark_ends(ends: set[NodeState]) -> None:
    for end in ends:
        end.ends_residual = True


def _ends(addition: NodeState, branch: NodeState, source: NodeState | None = None) -> set[NodeState]:
    """The last weights of a branch that starts at `source`, with the gains and scales behind them."""
    if addition.contracts:
        return {addition}
    ends: set[NodeState] = set()
    queue, visited = [branch], {branch, source}
    while queue and len(visited) < _LARGE:
        node = queue.pop()
        if node.weights:
            ends.add(node)
        if node.contracts or node.residual is not None or not _passes(node, slices=True):
            continue
        flowing: Sequence[NodeState] = node.flowing
        if node.operator in aten.MULTIPLICATIONS and len(flowing) == 2:
            scales = gates(flowing)
            flowing = [p for p in flowing if p not in scales]
        fresh = [p for p in flowing if p not in visited]
        visited.update(fresh)
        queue += fresh
    return ends


def gates(flowing: Sequence[NodeState]) -> list[NodeState]:
    """The operands of a product that only scale it."""
    return [p for p in flowing if p.base.activation in BOUNDED]
