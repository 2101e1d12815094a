"""The syntax of the user's source files: trees, statements at a line, what stands literally in them."""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Iterator
from types import CodeType


def body(code: CodeType) -> tuple[ast.stmt, ...]:
    """Statements of a function that stand under no condition and in no loop, lines as in its file."""
    tree = syntax(code)
    return tuple(_unconditional(tree.body)) if tree is not None else ()


def syntax(code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.Module | None:
    """The syntax tree of a function or a whole file, lines as in it; None if its source cannot be read."""
    if code.co_name == "<module>":
        return _file(code.co_filename)
    block = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : _last_line(code)]
    try:
        margin = len(block[0]) - len(block[0].lstrip())
        text = "".join(line[margin:] if line[:margin].isspace() else line for line in block)
        tree = ast.parse("\n" * (code.co_firstlineno - 1) + text)
    except (SyntaxError, IndexError):
        return None
    return next((n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))), None)


def _file(name: str) -> ast.Module | None:
    try:
        return ast.parse("".join(linecache.getlines(name)))
    except SyntaxError:
        return None


def _last_line(code: CodeType) -> int:
    """The line on which a function's last instruction ends, functions inside it included."""
    ends = [end or 0 for _, end, _, _ in code.co_positions()]
    return max([*ends, *(_last_line(part) for part in code.co_consts if isinstance(part, CodeType))])


def _unconditional(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in statements:
        if isinstance(statement, (ast.Expr, ast.Assign, ast.AugAssign, ast.Return)):
            yield statement
        elif isinstance(statement, ast.With):
            yield from _unconditional(statement.body)


def bound(*targets: ast.expr) -> Iterator[str]:
    """The local variables that an assignment sets."""
    return (part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))


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
