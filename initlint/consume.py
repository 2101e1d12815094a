"""Where stored tensors meet the data: one pass over the graph, from the inputs on.

A node is *data* if its values depend on an input. Everything else is made of stored tensors alone
(reshaped, masked, normalised, multiplied with each other) and carries their axes until it meets data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from initlint import axes, vocabulary
from initlint.axes import Layout, Shape
from initlint.carry import (
    Factor,
    argument,
    factor,
    follow,
    numbers,
    result_shape,
    section,
    split_dimension,
    transposed,
)
from initlint.declared import convolution

if TYPE_CHECKING:
    from torch import fx

    from initlint.evidence import Use


@dataclass(frozen=True, slots=True)
class Stored:
    """A parameter or floating-point buffer."""

    name: str
    shape: Shape
    parameter: bool
    declared: Use | None = None

    @property
    def owner(self) -> str:
        """Path of the module that holds it."""
        return self.name.rpartition(".")[0]


@dataclass(slots=True)
class Carried:
    """The stored tensors that a node is made of, and where their axes are in it.

    `inner` are the axes over which they were summed with each other; `gathered` when an index chose.
    """

    layouts: dict[str, Layout] = field(default_factory=dict)
    inner: dict[str, tuple[int, ...]] = field(default_factory=dict)
    gathered: bool = False


@dataclass(frozen=True, slots=True)
class Meeting:
    """One place at which a stored tensor meets data.

    `role` is a role of Use, or "multiply", "add" where what the data is decides, or "declared".
    """

    tensor: str
    node: int
    role: str
    partner: int | None = None  # the data
    labelled: int = 0  # dimensions along which the tensor varies
    facts: Mapping[str, Any] = field(default_factory=dict)  # fans and axes of a product
    cuts: tuple[int, ...] = ()  # where along its output axis the tensor was sliced before


@dataclass(slots=True)
class Consumption:
    """The graph's nodes by position, and what the pass found out about them."""

    stored: Mapping[str, Stored]
    nodes: list[fx.Node] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # folded operator names
    position: dict[fx.Node, int] = field(default_factory=dict)
    data: list[bool] = field(default_factory=list)
    before: list[tuple[int, ...]] = field(default_factory=list)  # data that a node depends on
    flowing: list[tuple[int, ...]] = field(default_factory=list)  # of these, data whose values flow on
    weights: list[tuple[str, ...]] = field(default_factory=list)  # parameters met at a node
    contracts: list[bool] = field(
        default_factory=list
    )  # the node applies a parameter as weight, or looks it up
    carried: list[Carried | None] = field(default_factory=list)
    tracked: list[dict[str, Layout] | None] = field(
        default_factory=list
    )  # output axes of weights in the data
    meetings: list[Meeting] = field(default_factory=list)
    cuts: dict[str, set[int]] = field(
        default_factory=dict
    )  # where along a weight's outputs the data is split
    halves: dict[int, tuple[int, str, tuple[int, int]]] = field(default_factory=dict)
    outputs: tuple[int, ...] = ()


def consume(graph: fx.Graph, stored: Mapping[str, Stored]) -> Consumption:
    """Read the graph once, in order."""
    seen = Consumption(stored)
    for i, node in enumerate(graph.nodes):
        seen.nodes.append(node)
        seen.position[node] = i
        seen.names.append(vocabulary.operation(node.target) if node.op == "call_function" else node.op)
        for column in (seen.before, seen.flowing, seen.weights):
            column.append(())
        seen.data.append(node.op == "placeholder")
        seen.contracts.append(False)
        seen.carried.append(None)
        seen.tracked.append(None)
        if node.op == "get_attr":
            _enter_stored(seen, i, node)
        elif node.op in ("call_function", "output"):
            _enter_call(seen, i, node)
    return seen


def _enter_stored(seen: Consumption, i: int, node: fx.Node) -> None:
    tensor = seen.stored.get(str(node.target))
    if tensor is not None:
        seen.carried[i] = Carried({tensor.name: axes.stored(tensor.shape)})


def _arguments(node: fx.Node) -> Iterator[tuple[int, fx.Node]]:
    """The nodes among the arguments, each with the position of its argument (by schema for keywords)."""
    for place, value in enumerate(node.args):
        yield from ((place, n) for n in _nodes(value))
    for key, value in node.kwargs.items():
        yield from ((_KEYWORDS.get(key, -1), n) for n in _nodes(value))


_KEYWORDS = {"bias": 2, "attn_mask": 3, "attn_bias": 3}


def _nodes(value: Any) -> Iterator[fx.Node]:
    if hasattr(value, "all_input_nodes"):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _nodes(item)


def _enter_call(seen: Consumption, i: int, node: fx.Node) -> None:
    name = seen.names[i]
    if name in vocabulary.LIKE:
        return
    operands = [(place, seen.position[n]) for place, n in _arguments(node)]
    if name in vocabulary.CONTRACTIONS or name == "aten.einsum":
        _product(seen, i, node, operands)
    else:
        seen.data[i] = any(seen.data[p] for _, p in operands) or _becomes_data(seen, i, node, operands)
        if seen.data[i]:
            _meet(seen, i, operands)
        else:
            seen.carried[i] = _combined(seen, i, node, operands)
    if seen.data[i]:
        before = [(place, p) for place, p in operands if seen.data[p]]
        flowing = vocabulary.FLOWING.get(name)
        seen.before[i] = tuple(dict.fromkeys(p for _, p in before))
        seen.flowing[i] = (
            seen.before[i]
            if flowing is None
            else tuple(dict.fromkeys(p for place, p in before if place in flowing))
        )
        if not seen.contracts[i] or seen.tracked[i] is None:
            seen.tracked[i] = _track(seen, i, node)
    if node.op == "output":
        seen.outputs = tuple(dict.fromkeys(p for _, p in operands))


# ---------------------------------------------------------------- made of stored tensors alone


def _shape(seen: Consumption, i: int) -> Shape | None:
    known = result_shape(seen.nodes[i])
    carried = seen.carried[i]
    if known is None and carried is not None and carried.layouts:
        return axes.shape(next(iter(carried.layouts.values())))
    return known


def _combined(seen: Consumption, i: int, node: fx.Node, operands: list[tuple[int, int]]) -> Carried | None:
    """What a node that no data reaches is made of."""
    name = seen.names[i]
    sources = [(p, c) for _, p in operands if (c := seen.carried[p]) is not None]
    if not sources:
        return None
    if len(operands) == 1 and name not in vocabulary.CONCATENATIONS | vocabulary.STACKS:
        return _followed(seen, i, node, sources[0][1])
    if name in vocabulary.LOOKUPS:
        return _gathered(seen, i, node, seen.carried[operands[0][1]])
    if name in vocabulary.CONCATENATIONS:
        return _joined(seen, node, operands)
    combined = Carried(gathered=any(c.gathered for _, c in sources))
    sizes = _broadcast(seen, i, operands)
    stacked = argument(node, "dim", 0) if name in vocabulary.STACKS else None
    for _, carried in sources:
        for tensor, layout in carried.layouts.items():
            if stacked is not None:
                d = stacked % (len(layout) + 1)
                layout = (*layout[:d], axes.foreign(len(operands)), *layout[d:])
            elif sizes is not None and len(sizes) >= len(layout):
                layout = axes.expand(layout, sizes)
            best = combined.layouts.get(tensor)
            if best is None or axes.labelled(layout) > axes.labelled(best):
                combined.layouts[tensor] = layout
                combined.inner[tensor] = carried.inner.get(tensor, ())
    return combined


def _broadcast(seen: Consumption, i: int, operands: list[tuple[int, int]]) -> Shape | None:
    known = result_shape(seen.nodes[i])
    if known is not None:
        return known
    shapes = [shape for _, p in operands if (shape := _shape(seen, p)) is not None]
    ndim = max((len(s) for s in shapes), default=0)
    padded = [(1,) * (ndim - len(s)) + tuple(s) for s in shapes]
    return tuple(max(column) for column in zip(*padded, strict=True))


def _followed(seen: Consumption, i: int, node: fx.Node, carried: Carried) -> Carried | None:
    name = seen.names[i]
    moved = Carried(inner=dict(carried.inner), gathered=carried.gathered)
    for tensor, layout in carried.layouts.items():
        if name == "getitem":
            after = _item(seen, node, layout)
        elif name in vocabulary.SPLITS | vocabulary.UNBINDS:
            after = layout
        elif name in vocabulary.RESHAPES or name in vocabulary.REDUCTIONS:
            after = follow(node, name, layout)
        else:
            sizes = result_shape(node)
            after = layout if sizes is None or sizes == axes.shape(layout) else follow(node, name, layout)
        moved.layouts[tensor] = after if after is not None else _lost(node)
    return moved


def _lost(node: fx.Node) -> Layout:
    """The layout of a tensor whose axes can no longer be told."""
    return tuple([axes.foreign(n) for n in result_shape(node) or ()])


def _item(seen: Consumption, node: fx.Node, layout: Layout) -> Layout | None:
    """One result of an operator with several: a piece of a split, else the operand itself."""
    parent, index = node.args
    name = seen.names[seen.position[parent]]
    if name not in vocabulary.SPLITS | vocabulary.UNBINDS:
        sizes = result_shape(node)
        return layout if sizes is None or sizes == axes.shape(layout) else None
    dim = split_dimension(parent, len(layout))
    piece = section(parent, name, index, axes.length(layout[dim])) if dim is not None else None
    if dim is None or piece is None:
        return None
    if name in vocabulary.UNBINDS:
        return axes.without(layout, (dim,))
    return axes.take(layout, dim, piece[1], piece[2])


def _gathered(seen: Consumption, i: int, node: fx.Node, carried: Carried | None) -> Carried | None:
    """Rows picked from a stored tensor: the axes that no index replaces keep their places at the end."""
    if carried is None:
        return None
    sizes = result_shape(node)
    picked = Carried(inner=dict(carried.inner), gathered=True)
    for tensor, layout in carried.layouts.items():
        indices = argument(node, "indices")
        count = len(indices) if isinstance(indices, (list, tuple)) else 1
        whole = isinstance(indices, (list, tuple)) and any(x is None for x in indices)
        rest = () if whole or seen.names[i] in ("aten.gather", "aten.take") else layout[count:]
        if sizes is None or len(rest) > len(sizes):
            picked.layouts[tensor] = _lost(node)
        else:
            picked.layouts[tensor] = (*(axes.foreign(n) for n in sizes[: len(sizes) - len(rest)]), *rest)
    return picked


def _joined(seen: Consumption, node: fx.Node, operands: list[tuple[int, int]]) -> Carried:
    """Stored tensors side by side: each runs over its part of the common axis."""
    joined = Carried()
    shapes = [_shape(seen, p) for _, p in operands]
    start = 0
    for (_, p), shape in zip(operands, shapes, strict=True):
        carried = seen.carried[p]
        if shape is None or any(s is None or len(s) != len(shape) for s in shapes):
            return Carried({t: _lost(node) for _, q in operands for t in _layouts(seen, q)})
        dim = argument(node, "dim", 0) % len(shape)
        total = sum(s[dim] for s in shapes if s is not None)
        for tensor, layout in (carried.layouts if carried else {}).items():
            pieces = layout[dim]
            if len(pieces) == 1 and pieces[0].axis != axes.FOREIGN:
                pieces = (pieces[0]._replace(size=total, offset=pieces[0].offset - start),)
            else:
                pieces = axes.foreign(total)
            joined.layouts.setdefault(tensor, axes.replaced(layout, dim, pieces))
        start += shape[dim]
    return joined


def _layouts(seen: Consumption, i: int) -> Mapping[str, Layout]:
    carried = seen.carried[i]
    return carried.layouts if carried is not None else {}


# ---------------------------------------------------------------- who is weight, who is data


def _parameters(seen: Consumption, carried: Carried | None) -> list[Stored]:
    if carried is None:
        return []
    return [t for n in carried.layouts if (t := seen.stored[n]).parameter]


def _inside(path: str, module: str) -> bool:
    return not module or path == module or path.startswith(f"{module}.")


def _becomes_data(seen: Consumption, i: int, node: fx.Node, operands: list[tuple[int, int]]) -> bool:
    """A node of stored tensors that is no weight: rows looked up, another module's tensor normalised."""
    name = seen.names[i]
    if not operands or node.op == "output":
        return False
    if "embedding" in name or name in vocabulary.RECURRENT or name in vocabulary.ATTENTIONS:
        return True
    if name not in vocabulary.NORMS:
        return False
    module = node.meta.get("module") or ""
    own = [_inside(t.owner, module) for _, p in operands[1:] for t in _parameters(seen, seen.carried[p])]
    foreign = [not _inside(t.owner, module) for t in _parameters(seen, seen.carried[operands[0][1]])]
    return any(own) and bool(foreign) and all(foreign)


def _weight_side(seen: Consumption, node: fx.Node, left: int, right: int) -> int | None:
    """Which factor is the weight, 0 or 1; None where both are stored tensors that make a weight together."""
    if seen.data[left] or seen.data[right]:
        return 0 if seen.data[right] else 1
    module = node.meta.get("module") or ""
    if "parametrizations" in module:
        return None
    sides = [_parameters(seen, seen.carried[p]) for p in (left, right)]
    if bool(sides[0]) != bool(sides[1]):
        weight, other = (0, right) if sides[0] else (1, left)
        helpers = _layouts(seen, other)
        # The vectors of a spectral norm are buffers beside the weight.
        if helpers and all(seen.stored[n].owner == sides[weight][0].owner for n in helpers):
            return None
        return weight
    for test in (_owned(module), _declared):
        left_is, right_is = (any(test(t) for t in side) for side in sides)
        if left_is != right_is:
            return 0 if left_is else 1
    return None


def _owned(module: str) -> Any:
    return lambda tensor: _inside(tensor.owner, module)


def _declared(tensor: Stored) -> bool:
    return tensor.declared is not None and tensor.declared.role in ("matrix", "kernel", "recurrent")


# ---------------------------------------------------------------- products


def _product(seen: Consumption, i: int, node: fx.Node, operands: list[tuple[int, int]]) -> None:
    name = seen.names[i]
    factors = _factors(seen, name, node)
    if factors is None:
        seen.data[i] = any(seen.data[p] for _, p in operands)
        _meet(seen, i, operands)
        return
    left, right = factors
    is_data = seen.data[left], seen.data[right]
    side = _weight_side(seen, node, left, right)
    if not any(is_data) and side is None:
        seen.carried[i] = _multiplied(seen, i, node, left, right)
        return
    seen.data[i] = True
    rest = [(place, p) for place, p in operands if p not in factors]
    if all(is_data) or side is None:
        _meet(seen, i, rest)
        return
    weight, data = (left, right) if side == 0 else (right, left)
    if not seen.data[data]:
        _promote(seen, i, data)
    _apply(seen, i, node, side, weight, data)
    _meet(seen, i, rest)


def _factors(seen: Consumption, name: str, node: fx.Node) -> tuple[int, int] | None:
    """Positions of the left and right factor."""
    if name == "aten.einsum":
        found = list(_nodes(argument(node, "tensors")))
    elif name == "aten._trilinear":
        return seen.position[node.args[0]], seen.position[node.args[1]]
    elif name == "aten.bilinear":
        return seen.position[node.args[0]], seen.position[node.args[2]]
    else:
        places = vocabulary.PRODUCTS.get(name, (0, 1))
        found = [n for p in places if p < len(node.args) for n in _nodes(node.args[p])]
    return (seen.position[found[0]], seen.position[found[1]]) if len(found) == 2 else None


def _promote(seen: Consumption, i: int, operand: int) -> None:
    """A stored tensor that other weights are applied to: a table of learned or fixed inputs."""
    carried = seen.carried[operand]
    for tensor, layout in (carried.layouts if carried else {}).items():
        seen.meetings.append(Meeting(tensor, i, "table", None, axes.labelled(layout)))


def _multiplied(seen: Consumption, i: int, node: fx.Node, left: int, right: int) -> Carried | None:
    """A product of stored tensors, as in low-rank updates and spectral norms."""
    name, sizes = seen.names[i], result_shape(node)
    shapes = _shape(seen, left), _shape(seen, right)
    product = Carried()
    for side, operand in enumerate((left, right)):
        carried, other = seen.carried[operand], shapes[1 - side]
        for tensor, layout in (carried.layouts if carried else {}).items():
            parts = factor(node, name, side, len(layout))
            rival = factor(node, name, 1 - side, len(other)) if other is not None else None
            if parts is None or carried is None:
                product.layouts[tensor] = _lost(node)
                continue
            summed = tuple(a for d in parts.contracted for a in axes.axes(layout[d]))
            product.inner[tensor] = tuple(dict.fromkeys((*carried.inner.get(tensor, ()), *summed)))
            shared = tuple(layout[d] for d in parts.shared)
            own = tuple(layout[d] for d in parts.kept)
            their = tuple(axes.foreign(other[d]) for d in rival.kept) if rival and other is not None else ()
            made = (*shared, *own, *their) if side == 0 else (*shared, *their, *own)
            fits = sizes is None or axes.shape(made) == sizes
            product.layouts[tensor] = made if fits else _lost(node)
    return product if product.layouts else None


def _apply(seen: Consumption, i: int, node: fx.Node, side: int, weight: int, data: int) -> None:
    """A weight made of stored tensors is applied to data."""
    carried, name = seen.carried[weight], seen.names[i]
    if carried is None:
        return
    met: dict[str, tuple[dict[str, Any], Layout, Factor]] = {}
    for tensor, layout in carried.layouts.items():
        parts = factor(node, name, side, len(layout))
        if parts is None:
            seen.meetings.append(Meeting(tensor, i, "declared", data))
            continue
        met[tensor] = _contraction(seen.stored[tensor], carried, layout, parts), layout, parts
    mains = _mains(seen, met)
    tracked = {}
    for tensor, (facts, layout, parts) in met.items():
        if tensor not in mains:
            role = "scalar" if seen.stored[tensor].parameter else "state"
            seen.meetings.append(Meeting(tensor, i, role, data, axes.labelled(layout)))
            continue
        facts["role"] = "matrix"
        if name in vocabulary.CONVOLUTIONS:
            facts = _kernel(seen, node, name, layout, facts)
        seen.meetings.append(Meeting(tensor, i, facts["role"], data, 2, facts, _edges(layout, parts)))
        made = _made(node, name, side, layout, parts)
        if made is not None and len(parts.kept) == 1:
            tracked[tensor] = made
    parameters = tuple(t for t in mains if seen.stored[t].parameter)
    seen.weights[i] += parameters
    seen.contracts[i] = bool(parameters)
    seen.tracked[i] = tracked or None


def _mains(seen: Consumption, met: Mapping[str, Any]) -> list[str]:
    """The tensors that hold the weight's values, not its scales or masks."""
    parameters = [t for t in met if seen.stored[t].parameter] or list(met)
    if len(parameters) == 1:
        return parameters
    return [t for t in parameters if sum(n > 1 for n in seen.stored[t].shape) >= 2] or parameters


def _contraction(tensor: Stored, carried: Carried, layout: Layout, parts: Factor) -> dict[str, Any]:
    """Fans and axes of a tensor with this layout in a product."""
    terms, kept = _extents(layout, parts.contracted), _extents(layout, parts.kept)
    inner = {axis: tensor.shape[axis] for axis in carried.inner.get(tensor.name, ())}
    if terms:
        kept |= {axis: n for axis, n in inner.items() if axis not in terms}
    else:
        terms = inner
    single = [axis for axis, n in enumerate(tensor.shape) if n == 1]
    contracted = sorted(terms)
    if not terms and single:
        contracted = single[-1:] if kept or len(tensor.shape) == 1 else single
    outputs = sorted(kept) or [axis for axis in single if axis not in contracted][:1]
    used = {*contracted, *outputs}
    return {
        "fan_in": prod(terms.values()),
        "fan_out": prod(kept.values()),
        "contracted": tuple(contracted),
        "outputs": tuple(outputs),
        "stacked": tuple(a for a, n in enumerate(tensor.shape) if n != 1 and a not in used),
    }


def _extents(layout: Layout, dims: tuple[int, ...]) -> dict[int, int]:
    """How many steps along each stored axis some dimensions make together."""
    extents: dict[int, int] = {}
    for d in dims:
        for piece in layout[d]:
            if piece.axis != axes.FOREIGN:
                extents[piece.axis] = extents.get(piece.axis, 1) * piece.size
    return extents


def _kernel(
    seen: Consumption, node: fx.Node, name: str, layout: Layout, facts: dict[str, Any]
) -> dict[str, Any]:
    """Fans of a convolution; the axes as stored where the kernel is used as it is stored."""
    sizes = axes.shape(layout)
    groups = argument(node, "groups", 1)
    stride = numbers(argument(node, "stride")) or (1,)
    if not isinstance(groups, int):
        return {**facts, "role": "kernel"}
    kernel = convolution(sizes, groups, stride, transposed(node, name))
    plain = all(len(d) <= 1 and all(p.axis == k for p in d) for k, d in enumerate(layout))
    if plain:
        return kernel
    return {**kernel, **{key: facts[key] for key in ("contracted", "outputs", "stacked")}}


def _edges(layout: Layout, parts: Factor) -> tuple[int, ...]:
    """Where along its output axis a slice of a weight begins and ends."""
    if len(parts.kept) != 1 or len(layout[parts.kept[0]]) != 1:
        return ()
    piece = layout[parts.kept[0]][0]
    if piece.axis == axes.FOREIGN or not piece.outer:
        return ()
    return piece.offset, piece.offset + piece.size * piece.stride


def _made(node: fx.Node, name: str, side: int, layout: Layout, parts: Factor) -> Layout | None:
    """The layout of a product's result, which holds the weight's output axis as a dimension."""
    sizes = result_shape(node)
    if sizes is None or len(parts.kept) != 1 or name == "aten.einsum":
        return None
    if name in vocabulary.CONVOLUTIONS:
        place = 1 if len(sizes) == len(layout) else 0
    elif side == 1 or len(sizes) == 1:
        place = len(sizes) - 1
    else:
        place = len(sizes) - 2
    if not sizes:
        return None
    made = tuple([axes.foreign(n) for n in sizes])
    kept = layout[parts.kept[0]]
    return axes.replaced(made, place, kept) if axes.length(kept) == sizes[place] else None


# ---------------------------------------------------------------- all other meetings


def _meet(seen: Consumption, i: int, operands: list[tuple[int, int]]) -> None:
    """Stored tensors among the operands of a node that is data."""
    name = seen.names[i]
    partner = next((p for _, p in operands if seen.data[p]), None)
    for place, p in operands:
        carried = seen.carried[p]
        if seen.data[p] or carried is None:
            continue
        for tensor, layout in carried.layouts.items():
            role = _role(name, place, carried)
            seen.meetings.append(Meeting(tensor, i, role, partner, axes.labelled(layout)))
            if seen.stored[tensor].parameter:
                seen.weights[i] += (tensor,)
                if role in ("lookup", "recurrent"):
                    seen.contracts[i] = True
        if name in vocabulary.LOOKUPS and place == 0 and "embedding" not in name:
            _pass_rows(seen, i, carried)


def _pass_rows(seen: Consumption, i: int, carried: Carried) -> None:
    """Stacks of matrices that data picks from stay weights: experts chosen by a router."""
    stacks = {t for t in carried.layouts if sum(n > 1 for n in seen.stored[t].shape) >= 3}
    if stacks:
        seen.carried[i] = _gathered(seen, i, seen.nodes[i], carried)


def _role(name: str, place: int, carried: Carried) -> str:
    if name in vocabulary.NORMS:
        _, gain, shift = vocabulary.NORMS[name]
        return "table" if place == 0 else "gain" if place == gain else "shift" if place == shift else "state"
    if name in vocabulary.LOOKUPS:
        return "lookup" if place == 0 else "state"
    if name in vocabulary.CONTRACTIONS:
        return "table" if carried.gathered else "shift"
    if name in vocabulary.ADDITIONS or (name in ("aten.addcmul", "aten.addcdiv") and place == 0):
        return "add"
    if name in vocabulary.MULTIPLICATIONS | vocabulary.DIVISIONS or name in ("aten.addcmul", "aten.addcdiv"):
        return "multiply"
    if name in vocabulary.ATTENTIONS or name in vocabulary.ASSEMBLIES:
        return "table"
    if name in vocabulary.RECURRENT:
        return "recurrent"
    if name in vocabulary.POINTWISE or "prelu" in name:
        return "scale"
    return "declared"


# ---------------------------------------------------------------- how outputs are split


def _track(seen: Consumption, i: int, node: fx.Node) -> dict[str, Layout] | None:
    """Follow the output axes of weights through views and bias additions, and note where they are cut."""
    name = seen.names[i]
    sources = [t for p in seen.flowing[i] if (t := seen.tracked[p])]
    if not sources:
        return None
    if name == "getitem":
        return _track_item(seen, i, node, sources[0])
    if name in vocabulary.SPLITS | vocabulary.UNBINDS | vocabulary.RECURRENT_CELLS | {"aten.glu"}:
        if name == "aten.glu":
            for tensor, layout in sources[0].items():
                dim = argument(node, "dim", -1)
                half = axes.length(layout[dim]) // 2
                _cut(seen, i, i, tensor, layout[dim], half, half)
        return sources[0]
    if name in vocabulary.ADDITIONS:
        if len(sources) != len(seen.flowing[i]) or sum(map(len, sources)) > 4:
            return None
        sizes = result_shape(node)
        return {t: x for s in sources for t, x in s.items() if sizes is None or axes.shape(x) == sizes}
    if name in vocabulary.CONCATENATIONS:
        _heal(seen, i)
        return None
    if name not in vocabulary.RESHAPES and name not in vocabulary.UNARY:
        return None
    followed = {}
    for tensor, layout in sources[0].items():
        if name in vocabulary.SLICES | vocabulary.SELECTIONS:
            _cut_slice(seen, i, node, tensor, layout)
        after = follow(node, name, layout)
        if after is not None:
            followed[tensor] = after
    return followed or None


def _track_item(
    seen: Consumption, i: int, node: fx.Node, tracked: dict[str, Layout]
) -> dict[str, Layout] | None:
    parent = seen.position[node.args[0]]
    name = seen.names[parent]
    followed = {}
    for tensor, layout in tracked.items():
        if name in vocabulary.SPLITS | vocabulary.UNBINDS:
            dim = split_dimension(node.args[0], len(layout))
            piece = (
                section(node.args[0], name, node.args[1], axes.length(layout[dim]))
                if dim is not None
                else None
            )
            if dim is not None and piece is not None:
                _cut(seen, i, parent, tensor, layout[dim], piece[1], piece[2])
        after = _item(seen, node, layout)
        if after is not None:
            followed[tensor] = after
    return followed or None


def _cut_slice(seen: Consumption, i: int, node: fx.Node, tensor: str, layout: Layout) -> None:
    dim = split_dimension(node, len(layout))
    if dim is None:
        return
    size = axes.length(layout[dim])
    if seen.names[i] in vocabulary.SELECTIONS:
        index = argument(node, "index", 0)
        if isinstance(index, int) and size:
            _cut(seen, i, seen.position[node.args[0]], tensor, layout[dim], index % size, 1)
        return
    before = follow(node, seen.names[i], layout)
    if before is not None and axes.length(before[dim]) != size:
        from initlint.carry import bounds

        _, start, count, step = bounds(node, seen.names[i], size)
        if step == 1:
            _cut(seen, i, seen.position[node.args[0]], tensor, layout[dim], start, count)


def _cut(
    seen: Consumption, i: int, parent: int, tensor: str, dimension: axes.Dimension, start: int, count: int
) -> None:
    """Note that `count` elements from `start` were taken along a dimension that holds the output axis."""
    if not dimension or dimension[0].axis == axes.FOREIGN or not dimension[0].outer:
        return
    first, unit = dimension[0], axes.length(dimension[1:])
    if start % unit or count % unit:
        return
    ends = tuple(first.offset + edge // unit * first.stride for edge in (start, start + count))
    seen.cuts.setdefault(tensor, set()).update(ends)
    seen.halves[i] = (parent, tensor, (ends[0], ends[1]))


def _heal(seen: Consumption, i: int) -> None:
    """Pieces that are joined again at once were no parts: the halves of a rotary embedding."""
    origins = []
    for p in seen.flowing[i]:
        while p not in seen.halves and len(seen.flowing[p]) == 1 and seen.names[p] in vocabulary.UNARY:
            p = seen.flowing[p][0]
        origins.append(seen.halves.get(p))
    found = [o for o in origins if o is not None]
    if len(found) == len(origins) and len({(parent, tensor) for parent, tensor, _ in found}) == 1:
        seen.cuts.get(found[0][1], set()).difference_update(e for _, _, ends in found for e in ends)
