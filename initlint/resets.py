"""Initialising methods that classes define for themselves, and whether a build ran them."""

from __future__ import annotations

import functools
import inspect
from types import CodeType, FunctionType

from initlint.finding import Site
from initlint.sites import outside, package

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
