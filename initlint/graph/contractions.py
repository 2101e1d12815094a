"""Products of a weight with data: which factor is the weight, and which of its axes are summed over."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from torch import fx

from initlint.graph import aten, layouts
from initlint.graph.declared_roles import convolution
from initlint.graph.layouts import Layout
from initlint.graph.parameter_expressions import multiply
from initlint.graph.propagation import Factor, argument, factor, numbers, result_shape, transposed
from initlint.graph.state import Carried, Consumption, Meeting, Operand, Stored


def contract(seen: Consumption, i: int, node: fx.Node, operands: list[Operand]) -> list[Operand]:
    """Apply the weight of a product, if it has one, to its data; the operands that are no factor."""
    name = seen.names[i]
    factors = _factors(seen, name, node)
    if factors is None:
        seen.data[i] = any(seen.data[p] for _, p in operands)
        return operands
    left, right = factors
    side = _weight_side(seen, node, left, right)
    rest = [(place, p) for place, p in operands if p not in factors]
    if side is None and not (seen.data[left] or seen.data[right]):
        seen.carried[i] = multiply(seen, i, node, left, right)
        return rest
    seen.data[i] = True
    weight, data = (left, right) if side == 0 else (right, left)
    for p in (data,) if side is not None else factors:
        for tensor, layout in seen.layouts(p).items() if not seen.data[p] else ():
            # a table of learned or fixed inputs
            seen.meetings.append(Meeting(tensor, i, "table", None, layouts.labelled(layout)))
    carried = seen.carried[weight]
    if side is not None and carried is not None:
        _apply(seen, i, node, side, carried, data)
    return rest


def _factors(seen: Consumption, name: str, node: fx.Node) -> tuple[int, int] | None:
    """Positions of the left and right factor."""
    if name == "aten.einsum":
        found = argument(node, "tensors", ())
    else:
        places = aten.PRODUCTS.get(name, (0, 1))
        found = [node.args[p] for p in places if p < len(node.args)]
    if len(found) != 2 or not all(isinstance(n, fx.Node) for n in found):
        return None
    return seen.position[found[0]], seen.position[found[1]]


# ---------------------------------------------------------------- who is weight, who is data


def _weight_side(seen: Consumption, node: fx.Node, left: int, right: int) -> int | None:
    """Which factor is the weight, 0 or 1; None if neither is, or if both make a weight together."""
    if seen.data[left] and seen.data[right]:
        stacks = [p for p in (left, right) if seen.carried[p] is not None]
        return None if len(stacks) != 1 else int(stacks[0] == right)
    if seen.data[left] or seen.data[right]:
        # What a convolution is applied to is no kernel, even if the data made the kernel.
        convolves = aten.operation(node.target) in aten.CONVOLUTIONS
        return None if convolves and not seen.data[left] else int(seen.data[left])
    module = node.meta.get("module") or ""
    if "parametrizations" in module:
        return None
    sides = [seen.parameters(left), seen.parameters(right)]
    if bool(sides[0]) != bool(sides[1]):
        weight, other = (0, right) if sides[0] else (1, left)
        helpers = seen.layouts(other)
        # The vectors of a spectral norm are buffers beside the weight.
        if helpers and all(seen.stored[n].owner == sides[weight][0].owner for n in helpers):
            return None
        return weight
    tests: tuple[Callable[[Stored], bool], ...] = (lambda t: inside(t.owner, module), _declared)
    for test in tests:
        left_is, right_is = (any(test(tensor) for tensor in side) for side in sides)
        if left_is != right_is:
            return int(right_is)
    return None


def inside(path: str, module: str) -> bool:
    """A module path lies in a module."""
    return not module or path == module or path.startswith(f"{module}.")


def _declared(tensor: Stored) -> bool:
    return tensor.declared is not None and tensor.declared.role in ("matrix", "kernel", "recurrent")


# ---------------------------------------------------------------- the product


def _apply(seen: Consumption, i: int, node: fx.Node, side: int, carried: Carried, data: int) -> None:
    """A weight made of stored tensors is applied to data."""
    name = seen.names[i]
    met: dict[str, tuple[Layout, Factor]] = {}
    for tensor, layout in carried.layouts.items():
        parts = factor(node, name, side, len(layout))
        if parts is None:
            seen.meetings.append(Meeting(tensor, i, "declared", data))
        else:
            met[tensor] = layout, parts
    mains = _mains(seen, list(met))
    tracked = {}
    for tensor, (layout, parts) in met.items():
        if tensor not in mains:
            role = "scalar" if seen.stored[tensor].parameter else "state"
            seen.meetings.append(Meeting(tensor, i, role, data, layouts.labelled(layout)))
            continue
        facts = _contraction(seen.stored[tensor], carried.inner.get(tensor, ()), layout, parts)
        if name in aten.CONVOLUTIONS:
            facts = _kernel(node, name, layout, facts)
        seen.meetings.append(Meeting(tensor, i, facts["role"], data, 2, facts, _edges(layout, parts)))
        made = _made(node, name, side, layout, parts)
        if made is not None:
            tracked[tensor] = made
    parameters = tuple([tensor for tensor in mains if seen.stored[tensor].parameter])
    seen.weights[i] += parameters
    seen.contracts[i] = bool(parameters)
    seen.tracked[i] = tracked or None


def _mains(seen: Consumption, tensors: list[str]) -> list[str]:
    """The tensors that hold a weight's values, not its scales or masks."""
    parameters = [t for t in tensors if seen.stored[t].parameter] or tensors
    if len(parameters) == 1:
        return parameters
    return [t for t in parameters if sum(n != 1 for n in seen.stored[t].shape) >= 2] or parameters


def _contraction(tensor: Stored, summed: tuple[int, ...], layout: Layout, parts: Factor) -> dict[str, Any]:
    """Fans and axes of a tensor with this layout; `summed` axes were contracted before the product."""
    terms, kept = _extents(layout, parts.contracted), _extents(layout, parts.kept)
    inner = {axis: tensor.shape[axis] for axis in summed if axis not in terms}
    if terms:
        kept |= inner
    else:
        terms = inner
    single = [axis for axis, n in enumerate(tensor.shape) if n == 1]
    contracted = sorted(terms)
    if not terms and single:
        contracted = single[-1:] if kept or len(tensor.shape) == 1 else single
    outputs = sorted(kept) or [axis for axis in single if axis not in contracted][:1]
    used = {*contracted, *outputs}
    return {
        "role": "matrix",
        "fan_in": prod(terms.values()),
        "fan_out": prod(kept.values()),
        "contracted": tuple(contracted),
        "outputs": tuple(outputs),
        "stacked": tuple([a for a, n in enumerate(tensor.shape) if n != 1 and a not in used]),
    }


def _extents(layout: Layout, dims: tuple[int, ...]) -> dict[int, int]:
    """How many steps along each stored axis some dimensions make together."""
    extents: dict[int, int] = {}
    for d in dims:
        for piece in layout[d]:
            if piece.axis != layouts.FOREIGN:
                extents[piece.axis] = extents.get(piece.axis, 1) * piece.size
    return extents


def _kernel(node: fx.Node, name: str, layout: Layout, facts: dict[str, Any]) -> dict[str, Any]:
    """Fans of a convolution; the axes are the stored ones if the kernel is used as it is stored."""
    groups = argument(node, "groups", 1)
    stride = numbers(argument(node, "stride")) or (1,)
    if not isinstance(groups, int):
        return {**facts, "role": "kernel"}
    kernel = convolution(layouts.shape(layout), groups, stride, transposed(node, name))
    if all(len(d) <= 1 and all(piece.axis == k for piece in d) for k, d in enumerate(layout)):
        return kernel
    return {**kernel, **{key: facts[key] for key in ("contracted", "outputs", "stacked")}}


def _edges(layout: Layout, parts: Factor) -> tuple[int, ...]:
    """Where along its output axis a slice of a weight begins and ends."""
    if len(parts.kept) != 1 or len(layout[parts.kept[0]]) != 1:
        return ()
    piece = layout[parts.kept[0]][0]
    if piece.axis == layouts.FOREIGN or not piece.outer:
        return ()
    return piece.offset, piece.offset + piece.size * piece.stride


def _made(node: fx.Node, name: str, side: int, layout: Layout, parts: Factor) -> Layout | None:
    """The layout of a product's result, one dimension of which is the weight's output axis."""
    sizes = result_shape(node)
    if not sizes or len(parts.kept) != 1 or name == "aten.einsum":
        return None
    if name in aten.CONVOLUTIONS:
        place = 1 if len(sizes) == len(layout) else 0
    elif side == 1 or len(sizes) == 1:
        place = len(sizes) - 1
    else:
        place = len(sizes) - 2
    kept = layout[parts.kept[0]]
    if layouts.length(kept) != sizes[place]:
        return None
    return layouts.replaced(tuple([layouts.foreign(n) for n in sizes]), place, kept)


def summed_product(seen: Consumption, i: int, node: fx.Node) -> None:
    """(x · w).sum(dim) contracts w, as a product of matrices would."""
    product = node.args[0]
    if not isinstance(product, fx.Node) or seen.names[i] != "aten.sum":
        return
    p = seen.position[product]
    sizes, data = result_shape(product), seen.flowing[p]
    if seen.names[p] not in aten.MULTIPLICATIONS or sizes is None or len(data) != 1:
        return
    dims = {d % len(sizes) for d in numbers(argument(node, "dim")) or range(len(sizes))} if sizes else set()
    for factor_node in product.all_input_nodes:
        for tensor, layout in seen.layouts(seen.position[factor_node]).items():
            own = layouts.aligned(layout, len(sizes))
            contracted = tuple(d for d in dims if layouts.stored_axes(own[d]))
            if not contracted or not seen.stored[tensor].parameter or prod(seen.stored[tensor].shape) == 1:
                continue
            kept = tuple(d for d in range(len(sizes)) if d not in dims and layouts.stored_axes(own[d]))
            facts = _contraction(seen.stored[tensor], (), own, Factor(contracted, kept))
            seen.meetings.append(Meeting(tensor, i, "matrix", data[0], 2, facts))
            seen.weights[i] += (tensor,)
            seen.contracts[i] = True
