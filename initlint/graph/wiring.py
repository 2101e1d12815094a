"""What leads to a tensor and what becomes of it: the structure by which a construction is recognised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.fx import Node

from initlint.evidence import Step, Wiring
from initlint.graph import aten
from initlint.graph.propagation import SPLITTING
from initlint.graph.state import GraphState, Meeting, NodeState

#: Sums of long residual streams come from more weights than anybody asks for.
_MANY = 16
_LONG = 32  # operators between a weight and what becomes of its output
_WEIGHTS = ("matrix", "kernel", "lookup", "recurrent")
_NORMS = frozenset({"aten.norm", "aten.linalg_vector_norm"})
_REARRANGED = aten.RESHAPES | SPLITTING | {"getitem", "aten.clone", "aten.contiguous", "aten._to_copy"}
_HANDED = _REARRANGED | {"aten.dropout", "aten.native_dropout", "aten.alias", "aten.detach"}
_FACTORS = aten.MULTIPLICATIONS | aten.DIVISIONS
_PRODUCTS = aten.CONTRACTIONS | {"aten.einsum"}
#: Functions of stored values; anything else that is done to them is a step of unknown effect.
_SILENT = _HANDED | {"aten.lift_fresh", "aten.lift_fresh_copy"}


class Wires:
    """Answers questions about the surroundings of a use, from a graph in which all passes have been."""

    def __init__(self, graph: GraphState) -> None:
        self._graph = graph
        self._mains: dict[NodeState, tuple[str, ...]] = {}
        for meeting in graph.meetings:
            tensor = graph.stored[meeting.tensor]
            if meeting.role in _WEIGHTS and tensor.parameter and len(tensor.shape) > 1:
                known = self._mains.get(meeting.node, ())
                self._mains[meeting.node] = tuple(dict.fromkeys((*known, meeting.tensor)))
        self._near = self._nearest()
        self._factors: dict[str, float | None] = {}
        self._multipliers: dict[str, tuple[str, ...]] = {}
        self._gates: dict[str, set[tuple[int, int] | None]] = {}
        for node in graph.nodes:
            if node.activation is not None and len(node.flowing) == 1:
                self._note_factors(node.flowing[0])
            if node.residual is not None:
                self._note_gates(node, *node.residual)
        self._cosine_scales = set(self._scales_of_cosines())

    def wiring(self, meeting: Meeting, parts: int) -> Wiring:
        """The surroundings of one use of a tensor that is made of `parts` fused ones."""
        weight = meeting.role in _WEIGHTS
        return Wiring(
            sources=self._near[meeting.partner] if meeting.partner is not None else (),
            steps=() if weight else tuple(self._steps(meeting)),
            factor=self._factors.get(meeting.tensor, 1.0),
            multipliers=self._multipliers.get(meeting.tensor, ()),
            gates=tuple(self._gate_parts(meeting.tensor, parts)) if weight else (),
            cosine=meeting.node in self._cosine_scales,
            unit=weight and _is_made_of_unit_vectors(meeting),
        )

    def summands(self, node: NodeState) -> tuple[tuple[str, ...], ...]:
        """The last weights behind each operand of an addition of data."""
        if node.operator not in aten.ADDITIONS or len(node.flowing) != 2:
            return ()
        return tuple(self._near[p] for p in node.flowing)

    def _nearest(self) -> dict[NodeState, tuple[str, ...]]:
        """The last weights that each node's values come from, at most `_MANY` of them."""
        near: dict[NodeState, tuple[str, ...]] = {}
        for node in self._graph.nodes:
            if node.contracts:
                near[node] = self._mains.get(node, ())
            elif len(node.flowing) == 1:
                near[node] = near[node.flowing[0]]
            else:
                near[node] = tuple(dict.fromkeys(name for p in node.flowing for name in near[p]))[-_MANY:]
        return near

    # ------------------------------------------------ functions of the stored values

    def _steps(self, meeting: Meeting) -> Iterator[Step]:
        """What is done to a stored tensor on its way to the data, in order."""
        node, found = meeting.node, list[Step]()
        divisor = node.fx.args[1] if len(node.fx.args) > 1 else None
        if node.operator in aten.DIVISIONS and isinstance(divisor, Node):
            found += [Step("reciprocal")] if meeting.tensor in self._graph[divisor].layouts else []
        for _ in range(_LONG):
            made = next((p for p in node.inputs if meeting.tensor in p.layouts), None)
            if made is None:
                break
            node = made
            if node.fx.op == "call_function" and node.operator not in _SILENT:
                found.append(Step(node.operator.removeprefix("aten."), _number(node)))
        return reversed(found)

    # ------------------------------------------------ constants in front of an activation

    def _note_factors(self, node: NodeState) -> None:
        """Note what the outputs of weights are multiplied by before their activation, which takes `node`.

        None after anything but constants, stored factors and shifts.
        """
        constant, stored = 1.0, list[str]()
        for _ in range(_LONG):
            name, number = node.operator, _number(node)
            if node.contracts or len(node.flowing) != 1:
                break
            if name in _FACTORS and number:
                constant *= number if name in aten.MULTIPLICATIONS else 1 / number
            elif name in aten.MULTIPLICATIONS:
                stored += [tensor for p in node.inputs for tensor in p.layouts]
            elif name not in _HANDED | aten.ADDITIONS:
                break
            node = node.flowing[0]
        for tensor in self._near[node]:
            self._factors[tensor] = constant if node.contracts else None
            self._multipliers[tensor] = tuple(stored)

    # ------------------------------------------------ gates of residual branches

    def _note_gates(self, addition: NodeState, branch: NodeState, stream: NodeState) -> None:
        """Note the weights whose outputs scale the branch of a residual addition without depending on it."""
        products = [addition] if addition.operator == "aten.addcmul" else []
        for product in (*products, *_products(branch)):
            pair = product.flowing[-2:]
            for factor, other in (pair, pair[::-1]):
                origin, piece = _origin(factor)
                if origin is None or _depends(origin, stream) or not _depends(other, stream):
                    continue
                for name in self._mains.get(origin, ()):
                    self._gates.setdefault(name, set()).add(piece)

    def _gate_parts(self, tensor: str, parts: int) -> Iterator[int]:
        """Which of the fused parts of a weight are gates."""
        pieces = self._gates.get(tensor, ())
        if None in pieces:
            yield from range(parts)
            return
        shape = self._graph.stored[tensor].shape
        size = max(end for piece in pieces if piece for end in piece) if pieces else 0
        total = max([n for n in shape if n >= size], default=size) if shape else size
        total = shape[0] if shape and shape[0] >= size else total
        for start, end in sorted(piece for piece in pieces if piece):
            if total % parts == 0 and end - start == total // parts:
                yield start * parts // total

    # ------------------------------------------------ inner products of unit vectors

    def _scales_of_cosines(self) -> Iterator[NodeState]:
        """Nodes at which a stored tensor scales the inner products of normalised vectors."""
        scaled = {
            m.node: m.partner for m in self._graph.meetings if m.partner is not None and m.labelled <= 1
        }
        products = {
            node: node.inputs
            for node in self._graph.nodes
            if node.operator in _PRODUCTS and len(node.inputs) == 2
        }
        for node, partner in scaled.items():
            if partner.base in products and all(map(_is_unit, products[partner.base])):
                yield node
        for product, factors in products.items():
            for own in product.flowing:
                node = own.base
                others = [p for p in factors if p is not own]
                if node in scaled and _is_unit(scaled[node]) and all(map(_is_unit, others)):
                    yield node


def _products(branch: NodeState) -> list[NodeState]:
    """The products of data in a residual branch, up to its last weight."""
    products: list[NodeState] = []
    queue, visited = [branch], {branch}
    while queue and len(visited) < _LONG:
        node = queue.pop()
        if node.contracts:
            continue
        if node.operator in aten.MULTIPLICATIONS and len(node.flowing) == 2:
            products.append(node)
        elif node.operator not in _HANDED:
            continue
        fresh = [p for p in node.flowing if p not in visited]
        visited.update(fresh)
        queue += fresh
    return products


def _origin(node: NodeState) -> tuple[NodeState | None, tuple[int, int] | None]:
    """The weight of which a node is the output or a piece of it, and where the piece lies."""
    piece = None
    for _ in range(_LONG):
        if node.contracts:
            return node, piece
        if piece is None and node.cut is not None:
            piece = node.cut.ends
        if len(node.flowing) != 1 or node.operator not in _HANDED | {"aten.tanh"}:
            break
        node = node.flowing[0]
    return None, None


def _depends(node: NodeState, stream: NodeState) -> bool:
    """Whether a node is computed from another one."""
    queue, visited = [node], {node}
    while queue:
        p = queue.pop()
        if p is stream:
            return True
        fresh = [q for q in p.before if q.position >= stream.position and q not in visited]
        visited.update(fresh)
        queue += fresh
    return False


def _is_made_of_unit_vectors(meeting: Meeting) -> bool:
    made = [p for p in meeting.node.inputs if meeting.tensor in p.layouts]
    return bool(made) and all(map(_is_unit, made))


def _is_unit(node: NodeState) -> bool:
    """Whether the node divides vectors by their norms."""
    for _ in range(_LONG):
        if node.operator in _FACTORS and len(node.inputs) == 2:
            return any(map(_is_norm, node.inputs))
        if len(node.inputs) != 1 or node.operator not in _HANDED:
            return False
        node = node.inputs[0]
    return False


def _is_norm(node: NodeState) -> bool:
    """Whether the node is the norm of something, clamped, inverted or spread."""
    for _ in range(_LONG):
        if node.operator in _NORMS:
            return True
        if len(node.inputs) != 1 or node.contracts:
            return False
        node = node.inputs[0]
    return False


def _number(node: NodeState) -> float | None:
    """The constant among the arguments of an operator of two numbers."""
    values: Sequence[Any] = node.fx.args[:2]
    return next((float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)), None)
