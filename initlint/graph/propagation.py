"""How operators move the axes of a stored tensor, and which dimensions a product contracts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from initlint.graph import aten, layouts
from initlint.graph.layouts import Layout

if TYPE_CHECKING:
    from torch import fx

#: Operators with several results that are pieces of their operand.
SPLITTING = aten.SPLITS | aten.UNBINDS


# ---------------------------------------------------------------- arguments by name


@lru_cache(maxsize=4096)
def _positions(target: Any) -> dict[str, tuple[int, Any]]:
    schema = getattr(target, "_schema", None)
    if schema is None:
        return {}
    return {
        argument.name: (position, argument.default_value if argument.has_default_value() else None)
        for position, argument in enumerate(schema.arguments)
    }


def argument(node: fx.Node, name: str, default: Any = None) -> Any:
    """A node's argument by its name in the operator's schema."""
    if name in node.kwargs:
        return node.kwargs[name]
    known = _positions(node.target).get(name)
    if known is None:
        return default
    position, standard = known
    if position < len(node.args):
        return node.args[position]
    return default if standard is None else standard


def numbers(value: object) -> tuple[int, ...] | None:
    """The integers of an argument; None where one is computed in the graph."""
    if isinstance(value, int):
        return (value,)
    if isinstance(value, (list, tuple)) and all(isinstance(v, int) for v in value):
        return tuple(value)
    return None


def result_shape(node: fx.Node) -> tuple[int, ...] | None:
    """Shape of a node's single result, None if it has several or it is not known."""
    shape = node.meta.get("shape")
    return shape if shape is not None and all(isinstance(n, int) for n in shape) else None


# ---------------------------------------------------------------- shape operators


def follow(node: fx.Node, name: str, layout: Layout) -> Layout | None:
    """The layout behind a shape operator with one result; None where the axes are lost."""
    ndim = len(layout)
    if name in aten.VIEWS:
        sizes = result_shape(node) or _sizes(node, layout)
        return layouts.view(layout, sizes) if sizes is not None else None
    if name in aten.EXPANSIONS:
        sizes = result_shape(node) or numbers(argument(node, "size"))
        return layouts.expand(layout, sizes) if sizes is not None and len(sizes) >= ndim else None
    if name in aten.PERMUTATIONS:
        order = _order(node, name, ndim)
        return layouts.permute(layout, order) if order is not None else None
    if name in aten.SLICES:
        return _slice(node, name, layout)
    if name in aten.SELECTIONS:
        return layouts.drop(layout, (argument(node, "dim", 0),)) if ndim else None
    if name == "aten.unsqueeze":
        dim = argument(node, "dim", 0) % (ndim + 1)
        return (*layout[:dim], (), *layout[dim:])
    if name == "aten.squeeze":
        dims = numbers(argument(node, "dim"))
        dims = tuple(range(ndim)) if dims is None else dims
        return layouts.drop(layout, [d for d in dims if ndim and not layout[d]])
    if name in aten.REDUCTIONS:
        return _reduce(node, layout)
    return _fit(layout, result_shape(node))


def _fit(layout: Layout, sizes: tuple[int, ...] | None) -> Layout | None:
    """Behind an operator of unknown meaning: what kept its size kept its place."""
    if sizes is None or len(sizes) != len(layout):
        return None
    return layouts.resize(layout, sizes)


def _sizes(node: fx.Node, layout: Layout) -> tuple[int, ...] | None:
    """The sizes a view asks for, with -1 filled in."""
    sizes = numbers(argument(node, "size", argument(node, "shape")))
    if sizes is None or sizes.count(-1) > 1:
        return None
    total = layouts.length(tuple(piece for dimension in layout for piece in dimension))
    known = 1
    for size in sizes:
        known *= size if size != -1 else 1
    return tuple(total // known if size == -1 and known else size for size in sizes)


def _order(node: fx.Node, name: str, ndim: int) -> list[int] | None:
    order = list(range(ndim))
    if name == "aten.permute":
        dims = numbers(argument(node, "dims"))
        return [d % ndim for d in dims] if dims is not None and len(dims) == ndim else None
    if name in ("aten.t", "aten.numpy_T"):
        return order[::-1]
    if ndim < 2:
        return order
    if name in ("aten.mT", "aten.mH", "aten.adjoint"):
        first, second = -2, -1
    elif name in ("aten.movedim", "aten.moveaxis"):
        moved = numbers(argument(node, "source")), numbers(argument(node, "destination"))
        if moved[0] is None or moved[1] is None:
            return None
        return _moved_order(ndim, moved[0], moved[1])
    else:
        first = argument(node, "dim0", argument(node, "axis0", 0))
        second = argument(node, "dim1", argument(node, "axis1", 1))
    order[first], order[second] = order[second], order[first]
    return order


def _moved_order(ndim: int, source: Sequence[int], destination: Sequence[int]) -> list[int]:
    places = {d % ndim: s % ndim for s, d in zip(source, destination, strict=True)}
    others = iter([d for d in range(ndim) if d not in places.values()])
    return [places[d] if d in places else next(others) for d in range(ndim)]


def bounds(node: fx.Node, name: str, size: int) -> tuple[int, int, int]:
    """Start, number of elements and step of a slice of a dimension of `size`."""
    if name == "aten.narrow":
        start = argument(node, "start", 0)
        return start % max(size, 1), argument(node, "length", size), 1
    start, end, step = (argument(node, key) for key in ("start", "end", "step"))
    step = step if isinstance(step, int) else 1
    window = range(size)[slice(_integer(start), _integer(end), step)]
    return window.start, len(window), step


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _slice(node: fx.Node, name: str, layout: Layout) -> Layout | None:
    dim = argument(node, "dim", 0)
    if not isinstance(dim, int) or not -len(layout) <= dim < len(layout):
        return None
    start, size, step = bounds(node, name, layouts.length(layout[dim]))
    return layouts.take(layout, dim, start, size, step)


def _reduce(node: fx.Node, layout: Layout) -> Layout | None:
    dims = numbers(argument(node, "dim"))
    return layouts.drop(layout, dims or range(len(layout)), keep=bool(argument(node, "keepdim", False)))


def section(node: Any, name: str, index: int, size: int) -> tuple[int, int] | None:
    """Start and length of one of the pieces that a split gives of a dimension of `size`."""
    if name in aten.UNBINDS:
        return index, 1
    shapes = node.meta.get("shape")
    if shapes is not None:
        lengths = [shape[argument(node, "dim", 0)] for shape in shapes]
    else:
        pieces = argument(node, "split_sizes", argument(node, "split_size"))
        if "chunk" in name:
            pieces = -(-size // argument(node, "chunks", 1))
        if numbers(pieces) is None:
            return None
        lengths = [pieces] * -(-size // max(pieces, 1)) if isinstance(pieces, int) else list(pieces)
    if index >= len(lengths):
        return None
    start = sum(lengths[:index])
    return start, min(lengths[index], size - start)


def item(node: Any, name: str, layout: Layout) -> Layout | None:
    """The layout of one result of an operator with several: a piece of a split, else the operand itself."""
    whole, index = node.args
    if name not in SPLITTING:
        sizes = result_shape(node)
        return layout if sizes is None or sizes == layouts.shape(layout) else None
    dim = split_dimension(whole, len(layout))
    piece = section(whole, name, index, layouts.length(layout[dim])) if dim is not None else None
    if dim is None or piece is None:
        return None
    return layouts.drop(layout, (dim,)) if name in aten.UNBINDS else layouts.take(layout, dim, *piece)


def split_dimension(node: Any, ndim: int) -> int | None:
    """The dimension along which a split, unbind, slice or select works."""
    dim = argument(node, "dim", 0)
    return dim % ndim if isinstance(dim, int) and ndim else None


# ---------------------------------------------------------------- products


@dataclass(frozen=True, slots=True)
class Factor:
    """Dimensions of one factor of a product: summed over, kept, and shared with the other factor."""

    contracted: tuple[int, ...]
    kept: tuple[int, ...]
    shared: tuple[int, ...] = ()


def factor(node: fx.Node, name: str, side: int, ndim: int) -> Factor | None:
    """How the left (0) or right (1) factor with `ndim` dimensions takes part in a product."""
    if name in aten.LINEAR:
        last = (ndim - 1,)
        return Factor(last, tuple(range(ndim - 1)))
    if name in aten.CONVOLUTIONS:
        spatial = tuple(range(2, ndim))
        return Factor((0, *spatial), (1,)) if is_transposed(node, name) else Factor((1, *spatial), (0,))
    if name in aten.BILINEAR:
        return Factor((1, 2), (0,)) if ndim == 3 else None
    if name == "aten.einsum":
        return _einsum(node, side)
    if ndim == 0:
        return None
    if ndim == 1:
        return Factor((0,), ())
    shared = tuple(range(ndim - 2))
    if side == 1:
        return Factor((ndim - 2,), (ndim - 1,), shared)
    return Factor((ndim - 1,), (ndim - 2,), shared)


def is_transposed(node: fx.Node, name: str) -> bool:
    """The convolution is a transposed one."""
    return "transpose" in name or bool(argument(node, "transposed", False))


def _einsum(node: fx.Node, side: int) -> Factor | None:
    equation = argument(node, "equation")
    if not isinstance(equation, str) or "..." in equation or "->" not in equation:
        return None
    inputs, _, output = equation.replace(" ", "").partition("->")
    operands = inputs.split(",")
    letters, others = operands[side], "".join(operands[:side] + operands[side + 1 :])
    places = {
        "contracted": [d for d, c in enumerate(letters) if c not in output],
        "kept": [d for d, c in enumerate(letters) if c in output and c not in others],
        "shared": [d for d, c in enumerate(letters) if c in output and c in others],
    }
    return Factor(*(tuple(places[key]) for key in ("contracted", "kept", "shared")))
