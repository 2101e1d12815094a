"""Views of memory: which elements of a storage an offset, sizes and strides reach."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def extent(offset: int, sizes: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """First and one past the last element of the storage that a view reaches."""
    if 0 in sizes:
        return offset, offset
    return offset, offset + 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))


def dense(offset: int, sizes: Sequence[int], strides: Sequence[int]) -> bool:
    """The view reaches every element of its extent exactly once."""
    first, last = extent(offset, sizes, strides)
    return prod(sizes) == last - first


def contiguous(sizes: Sequence[int], strides: Sequence[int]) -> bool:
    """The elements follow each other in memory as in the view."""
    step = 1
    for n, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if n != 1 and stride != step:
            return False
        step *= n
    return True
