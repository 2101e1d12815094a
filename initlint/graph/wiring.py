"""What leads to a tensor and what becomes of it: the structure by which a construction is recognised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import fx

from initlint.evidence import Step, Wiring
from initlint.graph import aten
from initlint.graph.propagation import SPLITTING
from initlint.graph.state import Consumption, Flow, Meeting

#: Sums of long residual streams come from more weights than anybody asks for.
_MANY = 16
_LONG = 32  # operators between a weight and what becomes of its output
_WEIGHTS = ("matrix", "kernel", "lookup", "recurrent")
_NORMS = frozenset({"aten.norm", "aten.linalg_vector_norm"})
_REARRANGED = aten.RESHAPES | SPLITTING | {"getitem", "aten.clone", "aten.contiguous", "aten._to_copy"}
_HANDED = _REARRANGED | {"aten.dropout", "aten.native_dropout", "aten.alias", "aten.detach"}
_FACTORS = aten.MULTIPLICATIONS | aten.DIVISIONS
#: Functions of stored values; anything else that is done to them is a step of unknown effect.
_SILENT = _HANDED | {"aten.lift_fresh", "aten.lift_fresh_copy"}


class Wires:
    """Answers questions about the surroundings of a use, from a consumed graph."""

    def __init__(self, seen: Consumption, facts: Flow) -> None:
        self._seen, self._facts = seen, facts
        self._mains: dict[int, tuple[str, ...]] = {}
        for meeting in seen.meetings:
            tensor = seen.stored[meeting.tensor]
            if meeting.role in _WEIGHTS and tensor.parameter and len(tensor.shape) > 1:
                known = self._mains.get(meeting.node, ())
                self._mains[meeting.node] = tuple(dict.fromkeys((*known, meeting.tensor)))
        self._near = self._nearest()
        self._factors: dict[str, float | None] = {}
        self._multipliers: dict[str, tuple[str, ...]] = {}
        self._find_factors()
        self._gates: dict[str, set[tuple[int, int] | None]] = {}
        for i in facts.residual:
            self._gate(i)
        self._similarities = set(self._cosines())

    def wiring(self, meeting: Meeting, parts: int) -> Wiring:
        """The surroundings of one use of a tensor that is made of `parts` fused ones."""
        weight = meeting.role in _WEIGHTS
        return Wiring(
            sources=self.weights_behind(meeting.partner) if meeting.partner is not None else (),
            steps=() if weight else tuple(self._steps(meeting)),
            factor=self._factors.get(meeting.tensor, 1.0),
            multipliers=self._multipliers.get(meeting.tensor, ()),
            gates=tuple(self._parts(meeting.tensor, parts)) if weight else (),
            cosine=meeting.node in self._similarities,
            unit=weight and self._divided_by_norms(meeting),
        )

    def weights_behind(self, i: int) -> tuple[str, ...]:
        """The last weights that a node's values come from, at most `_MANY` of them."""
        return self._near[i]

    def summands(self, i: int) -> tuple[tuple[str, ...], ...]:
        """The last weights behind each operand of an addition of data."""
        seen = self._seen
        if seen.names[i] not in aten.ADDITIONS or len(seen.flowing[i]) != 2:
            return ()
        return tuple(self._near[p] for p in seen.flowing[i])

    def _nearest(self) -> list[tuple[str, ...]]:
        near: list[tuple[str, ...]] = []
        for i, flowing in enumerate(self._seen.flowing):
            if self._seen.contracts[i]:
                near.append(self._mains.get(i, ()))
            elif len(flowing) == 1:
                near.append(near[flowing[0]])
            else:
                near.append(tuple(dict.fromkeys(name for p in flowing for name in near[p]))[-_MANY:])
        return near

    # ------------------------------------------------ functions of the stored values

    def _steps(self, meeting: Meeting) -> Iterator[Step]:
        """What is done to a stored tensor on its way to the data, in order."""
        seen, i, found = self._seen, meeting.node, list[Step]()
        node = seen.nodes[i]
        divisor = node.args[1] if len(node.args) > 1 else None
        if seen.names[i] in aten.DIVISIONS and isinstance(divisor, fx.Node):
            inverse = meeting.tensor in seen.layouts(seen.position[divisor])
            found += [Step("reciprocal")] if inverse else []
        for _ in range(_LONG):
            made = [n for n in node.all_input_nodes if meeting.tensor in seen.layouts(seen.position[n])]
            if not made:
                break
            node = made[0]
            name = seen.names[seen.position[node]]
            if node.op == "call_function" and name not in _SILENT:
                found.append(Step(name.removeprefix("aten."), _number(node)))
        return reversed(found)

    # ------------------------------------------------ constants in front of an activation

    def _find_factors(self) -> None:
        """Note what the outputs of weights are multiplied by before their activation.

        None after anything but constants, stored factors and shifts.
        """
        seen = self._seen
        for i in range(len(seen.nodes)):
            if self._facts.activation[i] is None or len(seen.flowing[i]) != 1:
                continue
            p, constant, stored = seen.flowing[i][0], 1.0, list[str]()
            for _ in range(_LONG):
                name, number = seen.names[p], _number(seen.nodes[p])
                if seen.contracts[p] or len(seen.flowing[p]) != 1:
                    break
                if name in _FACTORS and number:
                    constant *= number if name in aten.MULTIPLICATIONS else 1 / number
                elif name in aten.MULTIPLICATIONS:
                    stored += [
                        t for n in seen.nodes[p].all_input_nodes for t in seen.layouts(seen.position[n])
                    ]
                elif name not in _HANDED | aten.ADDITIONS:
                    break
                p = seen.flowing[p][0]
            for tensor in self._near[p]:
                self._factors[tensor] = constant if seen.contracts[p] else None
                self._multipliers[tensor] = tuple(stored)

    # ------------------------------------------------ gates of residual branches

    def _gate(self, i: int) -> None:
        """Note the weights whose outputs scale the branch of a residual addition without depending on it."""
        seen = self._seen
        branch, stream = self._facts.residual[i]
        products = [i] if seen.names[i] == "aten.addcmul" else []
        queue, visited = [branch], {branch}
        while queue and len(visited) < _LONG:
            p = queue.pop()
            if seen.contracts[p]:
                continue
            if seen.names[p] in aten.MULTIPLICATIONS and len(seen.flowing[p]) == 2:
                products.append(p)
            elif seen.names[p] not in _HANDED:
                continue
            for q in seen.flowing[p]:
                if q not in visited:
                    visited.add(q)
                    queue.append(q)
        for p in products:
            pair = seen.flowing[p][-2:]
            for q, other in (pair, pair[::-1]):
                origin, piece = self._origin(q)
                if origin is None or origin == stream or self._depends(origin, stream):
                    continue
                if self._depends(other, stream):
                    for name in self._mains.get(origin, ()):
                        self._gates.setdefault(name, set()).add(piece)

    def _origin(self, i: int) -> tuple[int | None, tuple[int, int] | None]:
        """The weight of which a node is the output or a piece of it, and where the piece lies."""
        seen, piece = self._seen, None
        for _ in range(_LONG):
            if seen.contracts[i]:
                return i, piece
            if piece is None and i in seen.pieces:
                piece = seen.pieces[i][2]
            if len(seen.flowing[i]) != 1 or seen.names[i] not in _HANDED | {"aten.tanh"}:
                break
            i = seen.flowing[i][0]
        return None, None

    def _depends(self, i: int, stream: int) -> bool:
        queue, visited = [i], {i}
        while queue:
            p = queue.pop()
            if p == stream:
                return True
            for q in self._seen.before[p]:
                if q >= stream and q not in visited:
                    visited.add(q)
                    queue.append(q)
        return False

    def _parts(self, tensor: str, parts: int) -> Iterator[int]:
        pieces = self._gates.get(tensor, ())
        if None in pieces:
            yield from range(parts)
            return
        shape = self._seen.stored[tensor].shape
        size = max(end for piece in pieces if piece for end in piece) if pieces else 0
        total = max([n for n in shape if n >= size], default=size) if shape else size
        total = shape[0] if shape and shape[0] >= size else total
        for start, end in sorted(piece for piece in pieces if piece):
            if total % parts == 0 and end - start == total // parts:
                yield start * parts // total

    # ------------------------------------------------ inner products of unit vectors

    def _cosines(self) -> Iterator[int]:
        """Nodes at which a stored tensor scales the inner products of normalised vectors."""
        seen, base = self._seen, self._facts.base
        scaled = {m.node: m.partner for m in seen.meetings if m.partner is not None and m.labelled <= 1}
        products = {
            i: factors
            for i, name in enumerate(seen.names)
            if name in aten.CONTRACTIONS | {"aten.einsum"}
            and len(factors := [seen.position[n] for n in seen.nodes[i].all_input_nodes]) == 2
        }
        for i, partner in scaled.items():
            if base[partner] in products and all(map(self._unit, products[base[partner]])):
                yield i
        for i, factors in products.items():
            for own in seen.flowing[i]:
                node = base[own]
                others = [p for p in factors if p != own]
                if node in scaled and self._unit(scaled[node]) and all(map(self._unit, others)):
                    yield node

    def _divided_by_norms(self, meeting: Meeting) -> bool:
        seen = self._seen
        operands = [seen.position[n] for n in seen.nodes[meeting.node].all_input_nodes]
        made = [p for p in operands if meeting.tensor in seen.layouts(p)]
        return bool(made) and all(map(self._unit, made))

    def _unit(self, i: int | None) -> bool:
        """The node divides vectors by their norms."""
        seen = self._seen
        for _ in range(_LONG):
            if i is None:
                return False
            operands = [seen.position[n] for n in seen.nodes[i].all_input_nodes]
            if seen.names[i] in _FACTORS and len(operands) == 2:
                return any(map(self._is_norm, operands))
            if len(operands) != 1 or seen.names[i] not in _HANDED:
                return False
            i = operands[0]
        return False

    def _is_norm(self, i: int) -> bool:
        """The node is the norm of something, clamped, inverted or spread."""
        seen = self._seen
        for _ in range(_LONG):
            operands = [seen.position[n] for n in seen.nodes[i].all_input_nodes]
            if seen.names[i] in _NORMS:
                return True
            if len(operands) != 1 or seen.contracts[i]:
                return False
            i = operands[0]
        return False


def _number(node: fx.Node) -> float | None:
    """The constant among the arguments of an operator of two numbers."""
    values: Sequence[Any] = node.args[:2]
    return next((float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)), None)
