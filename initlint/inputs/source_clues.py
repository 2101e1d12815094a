"""What the source of a model says about its inputs: keys asked for, ranks and sizes near a failed line."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from torch import nn

from initlint.source import code_tree, last_name, nodes

PURE = (
    ast.Name,
    ast.Attribute,
    ast.Subscript,
    ast.Constant,
    ast.Tuple,
    ast.List,
    ast.UnaryOp,
    ast.USub,
    ast.Load,
)

ARITHMETIC = (ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Slice)


def value_of(node: ast.expr, frame: FrameType) -> Any:
    """The value of an expression without calls other than size(), dim() and len(); None when it has none."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            if last_name(part.func) not in ("size", "dim", "len"):
                return None
        elif not isinstance(part, (*PURE, *ARITHMETIC)):
            return None
    code = compile(ast.Expression(node), "<line>", "eval")
    try:
        return eval(code, frame.f_globals, dict(frame.f_locals))
    except Exception:  # a name that is not bound yet, an attribute that is not there
        return None


def required_keys(model: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """Keys that a model's forward cannot do without, by the argument that it looks them up in."""
    code = getattr(inspect.unwrap(model.forward), "__code__", None)
    found: dict[str, dict[str, None]] = {}
    for node in nodes(code_tree(code)) if code is not None else ():
        match node:
            case (
                ast.Call(
                    func=ast.Attribute(value=ast.Name(id=name), attr="get" | "pop"),
                    args=[ast.Constant(value=str(key))],
                )
                | ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key)), ctx=ast.Load())
            ):
                found.setdefault(name, {})[key] = None
    return {name: tuple(keys) for name, keys in found.items()}


def in_torch(frame: FrameType) -> bool:
    """The frame runs code of torch."""
    return str(frame.f_globals.get("__name__", "")).split(".")[0] == "torch"


def ranks(statement: ast.stmt, error: Exception) -> Iterator[tuple[int, ast.expr]]:
    """Numbers of dimensions that a statement takes for granted, and of what."""
    for node in ast.walk(statement):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Tuple)
            and isinstance(error, ValueError)
        ):
            owner = _shape_owner(node.value)
            if owner is not None and not any(isinstance(e, ast.Starred) for e in node.targets[0].elts):
                yield len(node.targets[0].elts), owner
        if isinstance(node, ast.Subscript) and isinstance(error, IndexError):
            owner = _shape_owner(node.value)
            if (
                owner is not None
                and isinstance(node.slice, ast.Constant)
                and isinstance(node.slice.value, int)
            ):
                yield node.slice.value + 1, owner


def _shape_owner(node: ast.expr) -> ast.expr | None:
    """x in x.shape, x.size() and x.shape[1:]."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "size":
        return node.func.value
    if isinstance(node, ast.Attribute) and node.attr == "shape":
        return node.value
    return None


def comparisons(statement: ast.stmt) -> Iterator[tuple[ast.expr, ast.cmpop, ast.expr]]:
    """Left side, operator and right side of what an assert or an `if` compares."""
    match statement:
        case ast.Assert(test=test) | ast.If(test=test) | ast.Expr(value=test):
            for node in ast.walk(test):
                if isinstance(node, ast.Compare):
                    yield node.left, node.ops[0], node.comparators[0]
