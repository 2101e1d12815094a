"""Tests of parameter and module names inside initialisers, held against the names of the final model.

Read from the source of the functions that wrote parameters and of what they call in the same file. A test
counts only where the tested variable is known to hold such a name: the target of a loop over
`named_parameters()` and its kin, or the parameter of a function that is handed one.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Literal

from torch import nn

from initlint.evidence import NameTest
from initlint.finding import Site
from initlint.sites import outside, package
from initlint.source import syntax

Names = Literal["tensors", "modules", "children"]
Test = Callable[[str], bool]
Lines = tuple[tuple[str, int, int], ...]  # file, first and last line
Resolve = Callable[[CodeType, str], tuple[FunctionType, ...]]

_SOURCES: dict[str, Names] = {
    "named_parameters": "tensors",
    "named_buffers": "tensors",
    "state_dict": "tensors",
    "named_modules": "modules",
    "named_children": "children",
}
_PATTERNS: dict[str, Callable[[str], Callable[[str], object]]] = {
    "match": lambda pattern: re.compile(pattern).match,
    "search": lambda pattern: re.compile(pattern).search,
    "fullmatch": lambda pattern: re.compile(pattern).fullmatch,
}
_DEPTH = 3  # calls followed from a function that wrote parameters


@dataclass(frozen=True, slots=True)
class _Function:
    """The source of one function, with line numbers of its file."""

    code: CodeType
    tree: ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class _Found:
    """One test, the literal it looks for, and the lines that run only if it is true."""

    function: _Function
    node: ast.expr
    names: Names
    literal: str
    test: Test
    loose: Test | None  # None where a looser test makes no sense
    bodies: Lines
    initialiser: bool


def name_tests(
    modules: Iterable[tuple[str, nn.Module]],
    tensors: Iterable[str],
    writers: Iterable[CodeType],
    written: Mapping[tuple[str, int], frozenset[str]],
) -> tuple[NameTest, ...]:
    """Name tests in `writers` (code objects outside torch that wrote, or called what wrote).

    `written` tells which tensors of the model were written with a line (file, number) in the stack.
    """
    modules, tensors = tuple(modules), tuple(tensors)
    codes = tuple(writers)
    reader = _Reader(_functions({type(module) for _, module in modules}, codes))
    for code in _reachable(codes, reader.resolve):
        function = _source(code) if _asks_for_names(code) else None
        if function is not None:
            reader.read(function, {}, (), _initialises(function.tree), _DEPTH)
    paths = tuple(path for path, _ in modules if path)
    results = {}
    for item in reader.found:
        names = tensors if item.names == "tensors" else paths
        result = _held_against(item, names, written)
        results[result.site, result.literal, result.text] = result
    return tuple(results.values())


def _held_against(
    item: _Found, names: tuple[str, ...], written: Mapping[tuple[str, int], frozenset[str]]
) -> NameTest:
    """The test's outcome for every name.

    Where the names that were tested did not start at the root, a name also matches with leading parts
    cut off, but only if the lines behind the test wrote it.
    """
    ran: set[str] = set()
    for file, first, last in item.bodies:
        for line in range(first, last + 1):
            ran |= written.get((file, line), frozenset())
    matched = tuple(
        name
        for name in names
        if item.test(name.rpartition(".")[2] if item.names == "children" else name)
        or ((name in ran or _holds(name, ran)) and any(item.test(part) for part in _tails(name)))
    )
    loose = item.loose
    known = set(matched)
    near = tuple(n for n in names if n not in known and loose(n)) if loose is not None else ()
    code = item.function.code
    return NameTest(
        site=Site(code.co_filename, item.node.lineno, code.co_name, package(code.co_filename)),
        text=ast.unparse(item.node),
        literal=item.literal,
        matched=matched,
        near=near,
        initialiser=item.initialiser,
    )


def _tails(name: str) -> Iterator[str]:
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _holds(module: str, tensors: set[str]) -> bool:
    return any(name.startswith(f"{module}.") for name in tensors)


# ---------------------------------------------------------------- functions


def _functions(classes: Iterable[type], codes: Iterable[CodeType]) -> Resolve:
    """Looks called names up: methods of the model's classes and functions, of the caller's own file."""
    files: dict[str, dict[str, list[FunctionType]]] = {code.co_filename: {} for code in codes}
    bases = dict.fromkeys(base for cls in classes for base in cls.__mro__)
    homes = [m for m in list(sys.modules.values()) if vars(m).get("__file__") in files]
    for place in (*bases, *homes):
        for name, value in list(vars(place).items()):
            function = inspect.unwrap(value) if isinstance(value, FunctionType) else None
            if isinstance(function, FunctionType) and function.__code__.co_filename in files:
                files[function.__code__.co_filename].setdefault(name, []).append(function)
    return lambda caller, name: tuple(files.get(caller.co_filename, {}).get(name, ()))


def _reachable(codes: Iterable[CodeType], resolve: Resolve) -> Iterator[CodeType]:
    """These functions and what they call in their own file."""
    seen: set[int] = set()
    queue = [(code, _DEPTH) for code in codes]
    while queue:
        code, left = queue.pop()
        if id(code) in seen or not outside(code.co_filename):
            continue
        seen.add(id(code))
        yield code
        if left:
            for name in {name for part in _nested(code) for name in part.co_names}:
                queue.extend((function.__code__, left - 1) for function in resolve(code, name))


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _asks_for_names(code: CodeType) -> bool:
    return not code.co_name.startswith("<") and any(
        name in _SOURCES for part in _nested(code) for name in part.co_names
    )


def _source(code: CodeType) -> _Function | None:
    tree = syntax(code)
    return _Function(code, tree) if tree is not None else None


def _initialises(tree: ast.AST) -> bool:
    """Some call in it is an in-place operation: nn.init.zeros_(…), p.data.normal_(…)."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr.endswith("_")
        and not node.func.attr.startswith("_")
        for node in ast.walk(tree)
    )


# ---------------------------------------------------------------- variables and tests


@dataclass(slots=True)
class _Reader:
    """Collects tests from functions, following names into the functions they are handed to."""

    resolve: Resolve
    found: list[_Found] = field(default_factory=list)
    seen: set[tuple[int, tuple[str, ...]]] = field(default_factory=set)

    def read(
        self, function: _Function, handed: Mapping[str, Names], bodies: Lines, initialiser: bool, left: int
    ) -> None:
        """Collect the tests in a function; `handed` are its parameters that hold names."""
        key = (id(function.code), tuple(sorted(handed)))
        known = {**handed, **_loop_variables(function.tree)}
        if key in self.seen or not known:
            return
        self.seen.add(key)
        guarded = _guarded(function)
        literals = _literal_loops(function.tree)
        for node in ast.walk(function.tree):
            lines = guarded.get(id(node), bodies)
            if isinstance(node, ast.Call) and left:
                for target, inner in self._handed_on(function, node, known):
                    self.read(target, inner, lines, initialiser, left - 1)
            for variable, literal, test, loose in _tests(node, literals):
                if variable in known and isinstance(node, ast.expr):
                    names = known[variable]
                    self.found.append(_Found(function, node, names, literal, test, loose, lines, initialiser))

    def _handed_on(
        self, function: _Function, call: ast.Call, known: Mapping[str, Names]
    ) -> Iterator[tuple[_Function, dict[str, Names]]]:
        """Functions of the same file that a call hands names to, and their parameters that hold them."""
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
        held = {
            key: known[value.id]
            for key, value in (*enumerate(call.args), *((k.arg, k.value) for k in call.keywords))
            if isinstance(value, ast.Name) and value.id in known
        }
        for target in self.resolve(function.code, name) if held and isinstance(name, str) else ():
            source = _source(target.__code__)
            if source is not None:
                parameters = [a.arg for a in (*source.tree.args.posonlyargs, *source.tree.args.args)]
                parameters = parameters[parameters[:1] in (["self"], ["cls"]) :]
                places = dict(enumerate(parameters))
                yield (
                    source,
                    {
                        key if isinstance(key, str) else places[key]: names
                        for key, names in held.items()
                        if isinstance(key, str) or key in places
                    },
                )


def _loop_variables(tree: ast.AST) -> dict[str, Names]:
    """Targets of loops over named_parameters() and its kin."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.comprehension)):
            source = _name_source(node.iter)
            target = node.target
            if isinstance(target, ast.Tuple) and target.elts:
                target = target.elts[0]
            if source is not None and isinstance(target, ast.Name):
                found[target.id] = source
    return found


def _name_source(node: ast.expr) -> Names | None:
    """What a loop over this expression names, if it is a call of named_parameters() or its kin."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in _SOURCES:
            return _SOURCES[part.func.attr]
    return None


def _guarded(function: _Function) -> dict[int, Lines]:
    """Lines that run only if an expression is true, by id of the expression and its parts."""
    found: dict[int, Lines] = {}
    for node in ast.walk(function.tree):
        if isinstance(node, ast.If):
            last = node.body[-1]
            lines = (function.code.co_filename, node.body[0].lineno, last.end_lineno or last.lineno)
            for part in ast.walk(node.test):
                found[id(part)] = (lines,)
    return found


def _literal_loops(tree: ast.AST) -> dict[str, tuple[str, ...]]:
    """Variables that run over a literal list of strings: any(k in name for k in ("a", "b"))."""
    return {
        node.target.id: strings
        for node in ast.walk(tree)
        if isinstance(node, (ast.For, ast.comprehension)) and isinstance(node.target, ast.Name)
        if (strings := _strings(node.iter))
    }


def _tests(
    node: ast.AST, literals: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, str, Test, Test | None]]:
    """Tests of a variable against literals in this very node: variable, literal, test, looser test."""
    match node:
        case ast.Compare(ops=[ast.Eq() | ast.NotEq()], left=left, comparators=[right]):
            variable, value = (left, right) if isinstance(left, ast.Name) else (right, left)
            if isinstance(variable, ast.Name):
                equal = isinstance(node.ops[0], ast.Eq)
                for text in _strings(value, single=True):
                    yield variable.id, text, _equality(text, equal), _part(text) if equal else None
        case ast.Compare(ops=[ast.In()], left=ast.Name(id=name), comparators=[right]):
            if name in literals:
                if isinstance(right, ast.Name):
                    for text in literals[name]:
                        yield right.id, text, _contains(text), _part(text)
            else:
                for text in _strings(right):
                    yield name, text, _equality(text, True), _part(text)
        case ast.Compare(ops=[ast.In()], left=ast.Constant(value=str(text)), comparators=[ast.Name(id=name)]):
            yield name, text, _contains(text), _part(text)
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id=name), attr="endswith" | "startswith"), args=[value]
        ):
            ends = isinstance(node.func, ast.Attribute) and node.func.attr == "endswith"
            texts = (
                literals.get(value.id, ()) if isinstance(value, ast.Name) else _strings(value, single=True)
            )
            for text in texts or _strings(value):
                yield name, text, _ends(text) if ends else _starts(text), _part(text)
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="re"), attr=attr),
            args=[ast.Constant(value=str(text)), ast.Name(id=name), *_],
        ) if attr in _PATTERNS:
            try:
                matcher, search = _PATTERNS[attr](text), re.compile(text).search
            except re.error:
                return
            yield name, text, _truth(matcher), _truth(search)


def _strings(node: ast.expr, single: bool = False) -> tuple[str, ...]:
    """Literal strings: one, or those of a tuple, list or set."""
    if isinstance(node, ast.Constant):
        return (node.value,) if isinstance(node.value, str) and single else ()
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return tuple(e.value for e in node.elts if isinstance(e, ast.Constant) and isinstance(e.value, str))
    return ()


def _equality(text: str, equal: bool) -> Test:
    return lambda name: (name == text) is equal


def _contains(text: str) -> Test:
    return lambda name: text in name


def _ends(text: str) -> Test:
    return lambda name: name.endswith(text)


def _starts(text: str) -> Test:
    return lambda name: name.startswith(text)


def _truth(function: Callable[[str], object]) -> Test:
    return lambda name: bool(function(name))


def _part(text: str) -> Test:
    """Contains the literal, whatever the case of letters and the dots at its ends."""
    wanted = text.strip(".").casefold()
    return lambda name: bool(wanted) and wanted in name.casefold()
