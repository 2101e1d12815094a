"""What the source of a class says: assignments, containers, initialising methods."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Set
from types import CodeType, FunctionType
from typing import Any

from initlint.finding import Site
from initlint.source.frames import outside, package
from initlint.source.syntax import (
    bindings,
    code_tree,
    nodes,
    own_attribute,
    unconditional,
    variables,
)

RESET_METHODS = (
    "reset_parameters",
    "init_weights",
    "_init_weights",
    "_reset_parameters",
    "initialize_weights",
)


@functools.lru_cache(maxsize=4096)
def reset_method(cls: type) -> CodeType | None:
    """The code of the class's own initialising method, if one is defined outside torch."""
    for base in cls.__mro__:
        for name in RESET_METHODS:
            found = inspect.unwrap(base.__dict__[name]) if callable(base.__dict__.get(name)) else None
            if isinstance(found, FunctionType) and outside(found.__code__.co_filename):
                return found.__code__
    return None


def definition(code: CodeType) -> Site:
    """The line at which a function is defined."""
    return Site(code.co_filename, code.co_firstlineno, code.co_name, package(code.co_filename))


_CONTAINERS = (
    ast.List,
    ast.Dict,
    ast.Tuple,
    ast.Set,
    ast.ListComp,
    ast.DictComp,
    ast.SetComp,
    ast.GeneratorExp,
)

_MAKERS = frozenset({"list", "dict", "tuple", "set", "OrderedDict", "defaultdict", "deque"})


@functools.lru_cache(maxsize=4096)
def container(cls: type, attribute: str) -> Site | None:
    """The line at which a class makes the list, tuple or dict that it keeps as `self.attribute`."""
    for code in methods(cls):
        if attribute not in code.co_names:
            continue
        for node in nodes(code_tree(code)):
            if isinstance(node, ast.Assign) and attribute in map(own_attribute, node.targets):
                made = _making_site(cls, code, node.value)
                if made is not None:
                    return made
    return None


@functools.lru_cache(maxsize=4096)
def assignment(cls: type, attribute: str) -> Site | None:
    """The line at which a class puts something into `self.attribute`, also by setattr or in its own body."""
    for code in methods(cls):
        named = attribute in (*code.co_names, *code.co_consts)
        for node in nodes(code_tree(code)) if named else ():
            if _assigns(node, attribute):
                return _site(code, node)
    computed = [
        _site(code, node)
        for code in methods(cls)
        if "setattr" in code.co_names
        for node in nodes(code_tree(code))
        if isinstance(node, ast.Call) and re.fullmatch(_setattr_pattern(node) or "(?!)", attribute)
    ]
    return computed[0] if len(computed) == 1 else None


def _setattr_pattern(node: ast.AST) -> str | None:
    """The names that a setattr with a computed name may give: setattr(self, f"table{i}", table)."""
    match node:
        case ast.Call(func=ast.Name(id="setattr"), args=[ast.Name(id="self"), name, _]):
            parts = name.values if isinstance(name, ast.JoinedStr) else [name]
            return "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".+" for p in parts)
    return None


def _assigns(node: ast.AST, attribute: str) -> bool:
    match node:
        case ast.Assign() | ast.AnnAssign():
            parts = (part for target, _ in bindings(node) for part in ast.walk(target))
            return attribute in map(own_attribute, parts)
        case ast.Call(func=ast.Name(id="setattr") | ast.Attribute(attr="__setattr__")):
            return any(isinstance(a, ast.Constant) and a.value == attribute for a in node.args)
    return False


_MOVING = frozenset({"to", "cuda", "type_as", "new_tensor", "as_tensor", "to_device"})


@functools.lru_cache(maxsize=4096)
def moves_to_device(cls: type, attribute: str) -> bool:
    """A class brings `self.attribute`, or what a method makes of it, to some device: `.to(x.device)`."""
    makers = {name for name, tree in _methods_naming(cls, {attribute}) if _returns(tree, {attribute})}
    attributes = {attribute, *makers}
    return any(_moves(tree, attributes) for _, tree in _methods_naming(cls, attributes))


def _methods_naming(cls: type, attributes: Set[str]) -> list[tuple[str, ast.AST]]:
    """Names and syntax of the methods that name one of the attributes."""
    codes = (code for code in methods(cls) if attributes & set(code.co_names))
    return [(code.co_name, tree) for code in codes if (tree := code_tree(code)) is not None]


def _returns(tree: ast.AST, attributes: Set[str]) -> bool:
    """A function returns something made from one of the attributes."""
    mentions = _mentions(tree, attributes)
    return any(
        isinstance(node, ast.Return) and node.value is not None and mentions(node.value)
        for node in ast.walk(tree)
    )


def _moves(tree: ast.AST, attributes: Set[str]) -> bool:
    mentions = _mentions(tree, attributes)
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _MOVING
        and any(mentions(part) for part in (node.func.value, *node.args))
        for node in ast.walk(tree)
    )


def _mentions(tree: ast.AST, attributes: Set[str]) -> Callable[[ast.AST], bool]:
    """Tells what mentions of the attributes, or of local variables made from them."""
    names: set[str] = set()

    def mentions(node: ast.AST) -> bool:
        own = any(own_attribute(part) in attributes for part in ast.walk(node))
        return own or not names.isdisjoint(variables(node))

    known = -1
    while len(names) > known:
        known = len(names)
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=targets, value=value) if mentions(value):
                    names.update(variables(*targets))
                case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                    names.update(variables(target) if mentions(value) else ())
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append"), args=[value]):
                    names.update([name] if mentions(value) else ())
    return mentions


def methods(cls: type) -> Iterator[CodeType]:
    """Code of all methods and properties that a class has from outside torch, its own first."""
    for base in cls.__mro__:
        for member in vars(base).values():
            value = member.fget if isinstance(member, property) else member
            if isinstance(value, FunctionType) and outside(value.__code__.co_filename):
                yield value.__code__


def _site(code: CodeType, node: Any) -> Site:
    return Site(code.co_filename, node.lineno, code.co_name, package(code.co_filename))


def _making_site(cls: type, code: CodeType, value: ast.expr) -> Site | None:
    """The line of a container's making, also when a method of the class returns it."""
    match value:
        case _ if isinstance(value, _CONTAINERS):
            return _site(code, value)
        case ast.Call(func=ast.Name(id=maker)) if maker in _MAKERS:
            return _site(code, value)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=method)):
            function: Any = getattr(cls, method, None)
            inner = getattr(inspect.unwrap(function), "__code__", code)
            for statement in unconditional(inner) if inner is not code else ():
                if isinstance(statement, ast.Return) and isinstance(statement.value, _CONTAINERS):
                    return _making_site(cls, inner, statement.value)
    return None
