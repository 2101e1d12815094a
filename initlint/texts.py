"""Source files as texts, and what stands in them literally; rules may use it, since it needs no torch."""

from __future__ import annotations

import ast
import functools
import linecache


def text(path: str) -> str:
    """A source file; empty if it cannot be read."""
    return "".join(linecache.getlines(path))


@functools.lru_cache(maxsize=64)
def tree(path: str) -> ast.Module | None:
    """The syntax tree of a source file; None if it is no Python."""
    try:
        return ast.parse(text(path))
    except (SyntaxError, ValueError):  # ValueError: null bytes
        return None


@functools.lru_cache(maxsize=256)
def literals(path: str) -> frozenset[float]:
    """The numbers that stand as such in a source file; none if it cannot be read."""
    parsed = tree(path)
    if parsed is None:
        return frozenset()
    constants = (node.value for node in ast.walk(parsed) if isinstance(node, ast.Constant))
    return frozenset(float(value) for value in constants if isinstance(value, (int, float)))
