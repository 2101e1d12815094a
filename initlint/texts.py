"""Source files as texts, and what stands in them literally; rules may use it, since it needs no torch."""

from __future__ import annotations

import ast
import functools
import linecache


def text(path: str) -> str:
    """A source file; empty if it cannot be read."""
    return "".join(linecache.getlines(path))


@functools.lru_cache(maxsize=256)
def literals(path: str) -> frozenset[float]:
    """The numbers that stand as such in a source file; none if it cannot be read."""
    try:
        tree = ast.parse(text(path))
    except SyntaxError:
        return frozenset()
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return frozenset(float(value) for value in constants if isinstance(value, (int, float)))
