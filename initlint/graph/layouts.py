"""Where the axes of a stored tensor have gone: labels that follow it through views.

A layout holds, for each dimension of a tensor that was made from a stored one, the pieces of the stored
axes that it runs over, outermost first. A weight of shape (out, in) after `.T.view(in, heads, -1)` has
the layout ((in), (heads of out), (rest of out)). Dimensions of size one hold nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

FOREIGN = -1


class Piece(NamedTuple):
    """`size` steps along a stored axis, each `stride` long, from `offset` on.

    `outer` is False for the fast part of an axis that was folded into several dimensions.
    """

    axis: int  # FOREIGN for a dimension that comes from elsewhere
    size: int
    stride: int = 1
    offset: int = 0
    outer: bool = True


Shape = tuple[int, ...]
Dimension = tuple[Piece, ...]
Layout = tuple[Dimension, ...]


def as_stored(shape: Sequence[int]) -> Layout:
    """The layout of a tensor as it is stored."""
    return tuple((Piece(axis, size),) if size != 1 else () for axis, size in enumerate(shape))


def foreign(size: int) -> Dimension:
    """A dimension without stored axes."""
    return () if size == 1 else (Piece(FOREIGN, size),)


def length(dimension: Dimension) -> int:
    """Number of elements along a dimension."""
    return prod(piece.size for piece in dimension)


def shape(layout: Layout) -> tuple[int, ...]:
    """The sizes of all dimensions."""
    return tuple([length(dimension) for dimension in layout])


def stored_axes(dimension: Dimension) -> tuple[int, ...]:
    """Stored axes that a dimension runs over."""
    return tuple([piece.axis for piece in dimension if piece.axis != FOREIGN])


def count_labelled(layout: Layout) -> int:
    """Number of dimensions that run over a stored axis."""
    return sum(any(piece.axis != FOREIGN for piece in dimension) for dimension in layout)


def align(layout: Layout, ndim: int) -> Layout:
    """With dimensions of size one in front, as broadcasting adds them."""
    return ((),) * (ndim - len(layout)) + layout


def expand(layout: Layout, sizes: Sequence[int]) -> Layout:
    """Broadcast to `sizes`; -1 keeps a dimension."""
    layout = align(layout, len(sizes))
    return tuple([d if d or n in (1, -1) else foreign(n) for d, n in zip(layout, sizes, strict=True)])


def permute(layout: Layout, order: Sequence[int]) -> Layout:
    """Dimensions in another order."""
    return tuple([layout[d] for d in order])


def transpose(layout: Layout, first: int, second: int) -> Layout:
    """Two dimensions swapped."""
    dimensions = list(layout)
    dimensions[first], dimensions[second] = dimensions[second], dimensions[first]
    return tuple(dimensions)


def take(layout: Layout, dim: int, start: int, size: int, step: int = 1) -> Layout:
    """`size` elements along one dimension."""
    return replace_dimension(layout, dim, _take_piece(layout[dim], start, size, step))


def _take_piece(dimension: Dimension, start: int, size: int, step: int) -> Dimension:
    if size == length(dimension):
        return dimension
    if size == 1:
        return ()
    if not dimension:
        return foreign(size)
    first, rest = dimension[0], dimension[1:]
    unit = length(rest)
    if start % unit or size % unit or (step != 1 and rest):
        return foreign(size)
    offset = first.offset + start // unit * first.stride
    return (first._replace(size=size // unit, stride=first.stride * step, offset=offset), *rest)


def replace_dimension(layout: Layout, dim: int, dimension: Dimension) -> Layout:
    """With one dimension exchanged."""
    dimensions = list(layout)
    dimensions[dim] = dimension
    return tuple(dimensions)


def drop(layout: Layout, dims: Sequence[int], *, keep: bool = False) -> Layout:
    """Without some dimensions, or with them reduced to size one."""
    gone = {d % len(layout) for d in dims} if layout else set()
    if keep:
        return tuple([() if d in gone else dimension for d, dimension in enumerate(layout)])
    return tuple([dimension for d, dimension in enumerate(layout) if d not in gone])


def resize(layout: Layout, sizes: Sequence[int]) -> Layout:
    """Same dimensions with other sizes, as interpolation and padding leave them."""
    dimensions = []
    for dimension, size in zip(layout, sizes, strict=True):
        if length(dimension) == size:
            dimensions.append(dimension)
        elif len(dimension) == 1 and size != 1:
            dimensions.append((dimension[0]._replace(size=size),))
        else:
            dimensions.append(foreign(size))
    return tuple(dimensions)


def view(layout: Layout, sizes: Sequence[int]) -> Layout:
    """The same elements in row-major order under other sizes; dimensions that mix lose their labels."""
    old = shape(layout)
    if prod(old) != prod(sizes) or 0 in old:
        return tuple([foreign(n) for n in sizes])
    dimensions: list[Dimension] = []
    i = 0
    for group in _groups(old, sizes):
        count, targets = group
        dimensions.extend(_deal([p for d in layout[i : i + count] for p in d], targets))
        i += count
    return tuple(dimensions)


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[int, list[int]]]:
    """The least runs of old dimensions that hold the same elements as runs of new ones."""
    groups: list[tuple[int, list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        start, targets, left, right = i, [], 1, 1
        if i < len(old):
            left, i = old[i], i + 1
        if j < len(new):
            right, j = new[j], j + 1
            targets.append(right)
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                targets.append(new[j])
                right, j = right * new[j], j + 1
        groups.append((i - start, targets))
    return groups


def _deal(pieces: list[Piece], sizes: Sequence[int]) -> list[Dimension]:
    """Pieces dealt out to dimensions of these sizes, cut where one ends inside."""
    queue = pieces[::-1]
    dimensions: list[Dimension] = []
    for size in sizes:
        dimension: list[Piece] = []
        while size != 1:
            piece = queue.pop()
            if size % piece.size == 0:
                dimension.append(piece)
                size //= piece.size
            elif piece.size % size == 0:
                inner = piece.size // size
                dimension.append(piece._replace(size=size, stride=piece.stride * inner))
                queue.append(piece._replace(size=inner, offset=0, outer=False))
                size = 1
            else:
                return [foreign(n) for n in sizes]
        dimensions.append(tuple(dimension))
    return dimensions
