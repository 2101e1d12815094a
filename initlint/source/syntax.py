"""The syntax of the user's source: trees of files and functions, statements at a line, names and targets.

All source is read and parsed here, once. What is no Python (a syntax error, null bytes, expressions nested
too deeply), or cannot be read, has no tree.
"""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Iterator, Sequence
from types import CodeType

Function = ast.FunctionDef | ast.AsyncFunctionDef
_SIMPLE = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return)


# ---------------------------------------------------------------- trees


def text(path: str) -> str:
    """A source file; empty if it cannot be read."""
    return "".join(linecache.getlines(path))


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # null bytes; nested too deeply
        return None


@functools.lru_cache(maxsize=64)
def file_tree(path: str) -> ast.Module | None:
    """The tree of a source file; None if it has none."""
    return _parsed(text(path))


@functools.lru_cache(maxsize=1024)
def code_tree(code: CodeType) -> Function | ast.Module | None:
    """The tree of a function, or of a file for the code of a module; lines and columns are those in the file.

    None for lambdas and comprehensions, and for what has no tree.
    """
    if code.co_name == "<module>":
        return file_tree(code.co_filename)
    first = code.co_firstlineno
    block = "".join(linecache.getlines(code.co_filename)[first - 1 : _last_line(code)])
    above = "\n" * (first - 2) + "if True:\n" if block[:1].isspace() else "\n" * (first - 1)
    parsed = _parsed(above + block)
    statements = parsed.body if parsed is not None else []
    match statements:
        case [ast.If(body=inner)]:
            statements = inner
    return next((node for node in statements if isinstance(node, Function)), None)


def _last_line(code: CodeType) -> int:
    """The line on which a function's last instruction ends, functions inside it included."""
    ends = [end or 0 for _, end, _, _ in code.co_positions()]
    return max([*ends, *(_last_line(part) for part in code.co_consts if isinstance(part, CodeType))])


def nodes(tree: ast.AST | None) -> Iterator[ast.AST]:
    """All nodes of a tree, outer ones first; none where there is no tree."""
    return ast.walk(tree) if tree is not None else iter(())


# ---------------------------------------------------------------- statements


@functools.lru_cache(maxsize=1024)
def statements_at(path: str, line: int) -> tuple[ast.stmt, ...]:
    """The statements on whose lines a line of a file lies, innermost first."""
    around = [
        node
        for node in nodes(file_tree(path))
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return tuple(sorted(around, key=lambda node: (node.end_lineno or 0) - node.lineno))


def simple_statement(path: str, line: int) -> ast.stmt | None:
    """The expression, assignment or return at a line of a file; None if there is none."""
    return next((node for node in statements_at(path, line) if isinstance(node, _SIMPLE)), None)


def unconditional(code: CodeType) -> tuple[ast.stmt, ...]:
    """Statements of a function that stand under no condition and in no loop."""
    tree = code_tree(code)
    return tuple(_unconditional(tree.body)) if tree is not None else ()


def _unconditional(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in statements:
        if isinstance(statement, (ast.Expr, ast.Assign, ast.AugAssign, ast.Return)):
            yield statement
        elif isinstance(statement, ast.With):
            yield from _unconditional(statement.body)


# ---------------------------------------------------------------- names


def own_attribute(node: ast.AST) -> str | None:
    """The x of self.x and cls.x; None of anything else."""
    match node:
        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
            return name
    return None


def last_name(node: ast.expr) -> str:
    """The f of f and of m.f, as it is called or tested; empty for what has no name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def variables(*parts: ast.AST) -> frozenset[str]:
    """The variables in parts of a tree: those that a target sets, or that a value is made of."""
    return frozenset(n.id for part in parts for n in ast.walk(part) if isinstance(n, ast.Name))


def bindings(node: ast.AST) -> list[tuple[ast.expr, ast.expr]]:
    """The targets of an assignment, each with the value that it gets; none of any other node."""
    match node:
        case ast.Assign(targets=targets, value=value):
            return [(target, value) for target in targets]
        case (
            ast.AnnAssign(target=target, value=ast.expr() as value)
            | ast.AugAssign(target=target, value=value)
        ):
            return [(target, value)]
    return []


# ---------------------------------------------------------------- what stands at a line


@functools.lru_cache(maxsize=256)
def literals(path: str) -> frozenset[float]:
    """The numbers that stand as such in a source file; none if it cannot be read."""
    constants = (node.value for node in nodes(file_tree(path)) if isinstance(node, ast.Constant))
    return frozenset(float(value) for value in constants if isinstance(value, (int, float)))


@functools.lru_cache(maxsize=1024)
def worked_on(path: str, line: int) -> frozenset[str]:
    """Names that the statement at a line, or a loop around it, calls methods of or hands on.

    They are `model` of `model.apply(f)`, of `for module in model.modules():` and of `initialise(model)`.
    """
    around = statements_at(path, line)
    loops = [node.iter for node in around if isinstance(node, ast.For)]
    heads: Sequence[ast.AST] = loops or [node for node in around if isinstance(node, _SIMPLE)]
    calls = [node for head in heads for node in ast.walk(head) if isinstance(node, ast.Call)]
    objects = [call.func.value for call in calls if isinstance(call.func, ast.Attribute)]
    objects += [value for call in calls for value in (*call.args, *(k.value for k in call.keywords))]
    return frozenset(value.id for value in objects if isinstance(value, ast.Name))


@functools.lru_cache(maxsize=1024)
def extended(path: str, line: int) -> str | None:
    """The name whose attribute or entry the statement at a line sets: `model` of `model.head = …`."""
    match simple_statement(path, line):
        case ast.Assign(targets=values):
            pass
        case ast.Expr(value=ast.Call(func=function)):  # model.add_module(…), model.layers.append(…)
            values = [function]
        case _:
            return None
    for value in values:
        root: ast.expr = value
        while isinstance(root, (ast.Attribute, ast.Subscript)):
            root = root.value
        if root is not value and isinstance(root, ast.Name):
            return root.id
    return None
