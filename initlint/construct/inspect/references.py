"""Whether the code of a model's classes speaks of a parameter, beside making it.

Needs the live model: the classes of the modules that hold the parameter, with the code of their methods.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any, Literal

from torch import nn

from initlint.construct.inspect.modules import class_package
from initlint.source import RESET_METHODS, code_tree, methods

Mention = Literal["forward", "elsewhere", "nowhere"]
_MAKING = frozenset({"__init__", "__new__", *RESET_METHODS})
#: Names by which code reaches attributes that it does not spell out.
_DYNAMIC = frozenset({"getattr", "__getattr__", "children", "named_children", "modules", "named_modules"}) | {
    "_modules",
    "_parameters",
    "parameters",
    "named_parameters",
    "__dict__",
    "get_submodule",
    "get_parameter",
}

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_PLAIN = frozenset({"self", "hasattr", "isinstance", "len", "bool", "int"})


def mention(model: nn.Module, name: str) -> Mention:
    """Where the classes around a parameter speak of it or of the module that leads to it.

    "forward": a forward method does, under no condition but on settings of the module. "elsewhere": some
    other method does, or a branch, or code that reaches attributes by other means than their name.
    """
    steps = name.split(".")
    holders: list[nn.Module] = [model]
    for step in steps[:-1]:
        holders.append(holders[-1]._modules[step])  # type: ignore[arg-type]
    own = [i for i, holder in enumerate(holders) if class_package(_class(holder)) != "torch"]
    if not own:  # containers of torch know no parameters of their own
        return "nowhere" if isinstance(holders[-1], _CONTAINERS) else "elsewhere"
    found = {_of(_class(holders[i]), steps[own[-1]]) for i in own}
    return "forward" if "forward" in found else "elsewhere" if "elsewhere" in found else "nowhere"


def _class(module: nn.Module) -> Any:
    return type(module)


@functools.lru_cache(maxsize=4096)
def _of(cls: type, attribute: str) -> Mention:
    found: Mention = "nowhere"
    for code in methods(cls):
        if code.co_name in _MAKING:
            continue
        words = _words(code)
        if words is not None and words.get(attribute) and code.co_name == "forward":
            return "forward"
        if words is None or attribute in words or not _DYNAMIC.isdisjoint(words):
            found = "elsewhere"
    return found


@functools.lru_cache(maxsize=4096)
def _words(code: CodeType) -> Mapping[str, bool] | None:
    """All that a function speaks of, each with whether it does so under no condition; None without source."""
    tree = code_tree(code)
    if tree is None:
        return None
    words: dict[str, bool] = {}
    for spoken, sure in _spoken(tree, True):
        words[spoken] = words.get(spoken, False) or sure
    return words


def _spoken(node: ast.AST, sure: bool) -> Iterator[tuple[str, bool]]:
    """What is read: names and texts, each with whether it stands under no condition."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Attribute(ctx=ast.Load(), attr=name) | ast.Name(ctx=ast.Load(), id=name):
                yield name, sure
            case ast.Constant(value=str() as name):
                yield name, sure
        branches = isinstance(node, ast.If | ast.IfExp) and child is not node.test and not _settled(node.test)
        yield from _spoken(child, sure and not branches)


def _settled(test: ast.expr) -> bool:
    """A condition on the module's own settings alone, not on what forward is given or on the mode."""
    return all(
        part.attr != "training" if isinstance(part, ast.Attribute) else part.id in _PLAIN
        for part in ast.walk(test)
        if isinstance(part, ast.Attribute | ast.Name)
    )
