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


@functools.lru_cache(maxsize=1024)
def worked_on(path: str, line: int) -> frozenset[str]:
    """Names that the statement at a line, or a loop around it, calls methods of or hands on.

    They are `model` of `model.apply(f)`, of `for module in model.modules():` and of `initialise(model)`.
    """
    statements = _statements(path, line)
    loops = [node.iter for node in statements if isinstance(node, ast.For)]
    calls = [node for head in loops or statements for node in ast.walk(head) if isinstance(node, ast.Call)]
    objects = [call.func.value for call in calls if isinstance(call.func, ast.Attribute)]
    objects += [value for call in calls for value in (*call.args, *(k.value for k in call.keywords))]
    return frozenset(value.id for value in objects if isinstance(value, ast.Name))


@functools.lru_cache(maxsize=1024)
def extended(path: str, line: int) -> str | None:
    """The name whose attribute or entry the statement at a line sets: `model` of `model.head = …`."""
    for statement in _statements(path, line):
        values: list[ast.expr] = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            values = [statement.value.func]  # model.add_module(…), model.layers.append(…)
        for value in values:
            root: ast.expr = value
            while isinstance(root, (ast.Attribute, ast.Subscript)):
                root = root.value
            if root is not value and isinstance(root, ast.Name):
                return root.id
    return None


def _statements(path: str, line: int) -> list[ast.stmt]:
    """The loops around a line and the simple statement at it."""
    parsed = tree(path)
    kinds = (ast.For, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Return)
    return [
        node
        for node in (ast.walk(parsed) if parsed is not None else ())
        if isinstance(node, kinds) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
