"""Initialising methods that classes define for themselves, and whether a build ran them."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import re
from types import CodeType, FunctionType

from initlint.finding import Site
from initlint.sites import outside, package
from initlint.source import body

NAMES = ("reset_parameters", "init_weights", "_init_weights", "_reset_parameters", "initialize_weights")


@functools.lru_cache(maxsize=4096)
def reset_method(cls: type) -> CodeType | None:
    """The code of the class's own initialising method, if one is defined outside torch."""
    for base in cls.__mro__:
        for name in NAMES:
            found = inspect.unwrap(base.__dict__[name]) if callable(base.__dict__.get(name)) else None
            if isinstance(found, FunctionType) and outside(found.__code__.co_filename):
                return found.__code__
    return None


def definition(code: CodeType) -> Site:
    """The line at which a function is defined."""
    return Site(code.co_filename, code.co_firstlineno, code.co_name, package(code.co_filename))


@functools.lru_cache(maxsize=4096)
def may_have_run(cls: type, code: CodeType) -> bool:
    """A run of the method may have gone unseen: it need not write anything, and something may call it."""
    if _writes_always(code):
        return False
    constructors = [getattr(vars(base).get("__init__"), "__code__", code) for base in cls.__mro__]
    files = {code.co_filename, *(constructor.co_filename for constructor in constructors)}
    return any(_mentions(file, code) for file in files if outside(file))


def _mentions(file: str, code: CodeType) -> bool:
    """The file uses the method's name, other than to define it or to call the base class's."""
    uses = re.compile(rf"(?<!def )(?<!super\(\)\.)\b{re.escape(code.co_name)}\b")
    return any(uses.search(line) for line in linecache.getlines(file))


def _writes_always(code: CodeType) -> bool:
    """Some in-place operation in it stands under no condition: nn.init.zeros_(…), self.w.data.normal_(…)."""
    return any(
        isinstance(part, ast.Call)
        and isinstance(part.func, ast.Attribute)
        and part.func.attr.endswith("_")
        and not part.func.attr.startswith("_")
        for statement in body(code)
        for part in ast.walk(statement)
    )
