"""What the user's source says about the sizes of inputs: literals and comparisons near a failed line."""

from __future__ import annotations

import ast
from types import FrameType
from typing import Any

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


def evaluated(node: ast.expr, frame: FrameType) -> Any:
    """The value of an expression without calls other than size(), dim() and len(); None when it has none."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            name = part.func.attr if isinstance(part.func, ast.Attribute) else getattr(part.func, "id", "")
            if name not in ("size", "dim", "len"):
                return None
        elif not isinstance(part, (*PURE, *ARITHMETIC)):
            return None
    code = compile(ast.Expression(node), "<line>", "eval")
    try:
        return eval(code, frame.f_globals, dict(frame.f_locals))
    except Exception:  # a name that is not bound yet, an attribute that is not there
        return None
