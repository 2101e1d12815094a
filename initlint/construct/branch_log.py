"""Listens to what initialisers ask about modules and names while the model is built.

`isinstance(m, nn.Conv1d)`, `name == "c_proj.weight"`, `hasattr(m, "scale_init")`: what such a test was asked
of is noted as the line runs, so that one which nothing ever passed can be told from one that was not reached.
"""

from __future__ import annotations

import ast
import builtins
import fnmatch
import inspect
import re
import sys
import weakref
from collections import ChainMap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, Literal

import torch
from torch import nn

from initlint.source import Instruction, bindings, code_tree, last_name, nodes, outside, package, variables

Kind = Literal["name", "class", "attribute"]

_ASKING = frozenset(
    {"isinstance", "hasattr", "getattr", "type", "__class__", "endswith", "startswith", "named_parameters"}
    | {"named_modules", "named_children", "modules", "children"}
)
_COMPREHENSIONS = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
_LIMIT = 4096  # objects remembered for one test
_STRINGS = frozenset(name for name in dir(str) if not name.startswith("_"))
_PURE: dict[str, Any] = {"re": re, "fnmatch": fnmatch, "any": any, "all": all, "len": len}


@dataclass(eq=False, slots=True)
class Question:
    """One test of one variable, and what it was asked of."""

    code: CodeType
    node: ast.expr
    kind: Kind
    variable: str
    literals: tuple[str, ...]  # strings looked for, attribute names, or names of classes
    formula: CodeType
    branch: bool  # decides over statements that may write
    passed: int = 0
    classes: tuple[type, ...] = ()
    failed: dict[object, Any] = field(default_factory=dict)  # strings, and weak references by id

    matched: set[str] = field(default_factory=set)  # names that passed
    caller: Instruction | None = None  # what called the function first
    callers: dict[int, Instruction] = field(default_factory=dict)  # lines that handed tensors in, by id

    def ask(self, frame: FrameType) -> None:
        """Note what the variable holds in this frame, and whether it passes."""
        value = frame.f_locals.get(self.variable)
        if not isinstance(value, str if self.kind == "name" else (str, nn.Module, torch.Tensor)):
            return
        if self.caller is None and frame.f_back is not None:
            self.caller = (frame.f_back.f_code, frame.f_back.f_lasti)
        try:
            passes = self.holds(value, frame)
        except Exception:  # the line itself will tell
            return
        if passes:
            self.passed += 1
            if isinstance(value, str) and len(self.matched) < _LIMIT:
                self.matched.add(value)
        elif len(self.failed) < _LIMIT:
            if isinstance(value, str):
                self.failed[value] = value
            else:
                self.failed[id(value)] = weakref.ref(value)
                if isinstance(value, torch.Tensor) and frame.f_back is not None:
                    self.callers[id(value)] = (frame.f_back.f_code, frame.f_back.f_lasti)

    def holds(self, value: object, frame: FrameType | None = None) -> bool:
        """The test's outcome for a value."""
        known = self.kind != "class" or self.classes
        if frame is not None and known and not any(isinstance(c, CodeType) for c in self.formula.co_consts):
            return bool(eval(self.formula, frame.f_globals, frame.f_locals))
        names = dict(_PURE) if frame is None else {**frame.f_globals, **frame.f_locals}
        names[self.variable] = value
        names.setdefault("__builtins__", builtins)
        if self.kind == "class" and not self.classes:
            self.classes = _classes(self.node, names)
        return bool(eval(self.formula, names))

    def objects(self) -> dict[int, object]:
        """Modules and tensors that did not pass and are still there, by id."""
        return {
            id(value): value
            for ref in self.failed.values()
            if not isinstance(ref, str) and (value := ref()) is not None
        }

    def strings(self) -> tuple[str, ...]:
        """Strings that did not pass."""
        return tuple(value for value in self.failed.values() if isinstance(value, str))


@dataclass(slots=True)
class _Plan:
    """The tests of one function, by the line at which they run."""

    lines: dict[int, list[Question]]

    def local(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            for question in self.lines.get(frame.f_lineno, ()):
                question.ask(frame)
        elif event == "return" and frame.f_code.co_name.startswith("<"):
            for questions in self.lines.values():  # the last turn of a comprehension
                for question in questions:
                    question.ask(frame)
        return self.local


class Questions:
    """Context manager: hears all that the user's own initialisers ask in this thread."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self._plans: dict[CodeType, _Plan | None] = {}
        self._initialisers: set[CodeType] = set()
        self._listening = False

    def __enter__(self) -> Questions:
        self._listening = sys.gettrace() is None  # else a debugger is at work
        if self._listening:
            sys.settrace(self._called)
        return self

    def __exit__(self, *details: object) -> None:
        if self._listening:
            sys.settrace(None)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hear nothing of what runs inside."""
        if not self._listening or sys.gettrace() != self._called:
            yield
            return
        sys.settrace(None)
        try:
            yield
        finally:
            sys.settrace(self._called)

    def ran(self, code: CodeType) -> bool:
        """A function was called; taken for granted where nobody listened."""
        return code in self._plans or not self._listening

    def _called(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        try:
            plan = self._plans[code]
        except KeyError:
            plan = self._plan(code, frame)
        return None if plan is None else plan.local

    def _plan(self, code: CodeType, frame: FrameType) -> _Plan | None:
        self._plans[code] = None
        if code.co_name.startswith("<") or not outside(code.co_filename) or package(code.co_filename):
            return None  # a library's own helpers know many more layers than this model has
        caller = frame.f_back.f_code if frame.f_back is not None else None
        initialises = _initialises(code)
        if initialises:
            self._initialisers.add(code)
        asks = any(name in _ASKING for part in _nested(code) for name in part.co_names)
        if not (asks and initialises) and caller not in self._initialisers:
            return None
        questions = list(_questions(code, frame, predicate=not initialises))
        self.asked += questions
        lines: dict[int, list[Question]] = {}
        for question in questions:
            lines.setdefault(question.node.lineno, []).append(question)
        plan = _Plan(lines) if lines else None
        for part in _nested(code):
            self._plans[part] = plan
        return plan


def _nested(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of the comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and constant.co_name in _COMPREHENSIONS:
            yield from _nested(constant)


def _initialises(code: CodeType) -> bool:
    """It may write values, or call what does: nn.init.zeros_(…), p.data = …, init_layer(m)."""
    names = {name for part in _nested(code) for name in part.co_names}
    return any(
        (name.endswith("_") and not name.startswith("_")) or ("init" in name and not name.startswith("__"))
        for name in (*names, code.co_name)
    ) or bool(names & {"data", "reset_parameters"})


# ---------------------------------------------------------------- tests in a function


def _questions(code: CodeType, frame: FrameType, *, predicate: bool) -> Iterator[Question]:
    parts = list(nodes(code_tree(code)))
    strings, figures = _class_names(parts), _figures(parts)
    for test, body in _conditions(parts, predicate):
        understood = [(part, found) for part in _parts(test) if (found := _understood(part, strings, frame))]
        if not understood:
            continue
        branch = body is None or any(
            _may_write(node) or _sets(node, figures) for statement in body for node in ast.walk(statement)
        )
        for part, (kind, variable, literals) in understood if branch or predicate else ():
            formula = compile(ast.Expression(part), code.co_filename, "eval")
            yield Question(code, part, kind, variable, literals, formula, branch)


def _conditions(
    nodes: Iterable[ast.AST], predicate: bool
) -> Iterator[tuple[ast.expr, list[ast.stmt] | None]]:
    """Expressions that decide whether statements run, what they compute, what is looped over, or what a
    predicate returns."""
    for node in nodes:
        if isinstance(node, ast.If):
            yield node.test, node.body
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                yield test, None
        elif isinstance(node, ast.Return) and predicate and node.value is not None:
            yield node.value, None
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.Expr)):
            for part in ast.walk(node.value):
                if isinstance(part, ast.IfExp):
                    yield part.test, [node]


def _may_write(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        name = last_name(node.func)
        return (name.endswith("_") and not name.startswith("_")) or "init" in name or "reset" in name
    parts = (part for target, _ in bindings(node) for part in ast.walk(target))
    return any(isinstance(part, ast.Attribute) and part.attr == "data" for part in parts)


def _figures(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Variables that go into what may write, also by way of others: nn.init.normal_(m.weight, std=std)."""
    named: dict[str, set[str]] = {}
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Call) and _may_write(node):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                found |= variables(argument)
        for target, value in bindings(node):
            if isinstance(target, ast.Name):
                named.setdefault(target.id, set()).update(variables(value))
    queue = [*found]
    while queue:
        fresh = named.pop(queue.pop(), set()) - found
        found |= fresh
        queue += fresh
    return frozenset(found)


def _sets(node: ast.AST, names: frozenset[str]) -> bool:
    """The statement gives one of these variables its value: std *= 0.1."""
    return any(isinstance(target, ast.Name) and target.id in names for target, _ in bindings(node))


def _parts(test: ast.expr) -> Iterator[ast.expr]:
    """The single tests that an expression is made of; what is negated is left out."""
    if isinstance(test, ast.BoolOp):
        for value in test.values:
            yield from _parts(value)
    elif not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
        yield test


def _class_names(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Variables that hold the name of a class: classname = m.__class__.__name__."""
    return frozenset(
        target.id
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute)
        if node.value.attr == "__name__"
        for target in node.targets
        if isinstance(target, ast.Name)
    )


def _understood(
    test: ast.expr, class_names: frozenset[str], frame: FrameType
) -> tuple[Kind, str, tuple[str, ...]] | None:
    """What a test asks: kind, variable, and the strings or names looked for."""
    match test:
        case ast.Call(func=ast.Name(id="isinstance"), args=[ast.Name(id=variable), classes]):
            return "class", variable, tuple(_spelled(classes))
        case ast.Call(
            func=ast.Name(id="hasattr" | "getattr"),
            args=[ast.Name(id=variable), ast.Constant(value=str(name)), *_],
        ):
            return "attribute", variable, (name,)
        case ast.Call(func=ast.Name(id="hasattr" | "getattr"), args=[ast.Name(id=variable), name, *_]):
            names = [strings for _, strings in _held(name, frame) if len(strings) == 1]
            return ("attribute", variable, names[0]) if len(names) == 1 else None
        case (
            ast.Compare(
                left=ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=variable)]),
                ops=[ast.Eq() | ast.Is() | ast.In()],
                comparators=[classes],
            )
            | ast.Compare(
                left=ast.Attribute(value=ast.Name(id=variable), attr="__class__"),
                ops=[ast.Eq() | ast.Is() | ast.In()],
                comparators=[classes],
            )
        ):
            return "class", variable, tuple(_spelled(classes))
    return _of_text(test, class_names, frame)


def _of_text(
    test: ast.expr, class_names: frozenset[str], frame: FrameType
) -> tuple[Kind, str, tuple[str, ...]] | None:
    """Likewise of a test that looks for strings in a name, or in the name of a class."""
    literals = tuple(
        node.value
        for node in ast.walk(test)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    held: dict[str, tuple[str, ...]] = {}
    if not literals:
        held = dict(_held(test, frame))
        literals = tuple(literal for strings in held.values() for literal in strings)
    negative = any(isinstance(op, (ast.NotEq, ast.NotIn, ast.IsNot)) for op in _operators(test))
    if not literals or (negative and not _found(test)):
        return None
    bound = {
        node.target.id
        for node in ast.walk(test)
        if isinstance(node, ast.comprehension) and isinstance(node.target, ast.Name)
    }
    free = variables(test) - bound - _PURE.keys() - vars(builtins).keys() - {t.split(".")[0] for t in held}
    attributes = {node.attr for node in ast.walk(test) if isinstance(node, ast.Attribute)}
    attributes -= {text.partition(".")[2] for text in held}
    if len(free) != 1:
        return None
    (variable,) = free
    if attributes - {"__name__"} <= {"__class__"} and attributes:
        return "class", variable, literals
    if not attributes <= _STRINGS | {"match", "search", "fullmatch", "fnmatch"}:
        return None
    return ("class" if variable in class_names else "name"), variable, literals


def _held(test: ast.expr, frame: FrameType) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Variables and attributes that hold the strings which a test looks for, as the function is entered."""
    values = ChainMap(frame.f_locals, frame.f_globals)
    asked = _receivers(test)
    for node in ast.walk(test):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in values:
                value = inspect.getattr_static(values[name], attribute, None)
            case ast.Name(id=name):
                value = values.get(name)
            case _:
                continue
        if isinstance(value, str) and name not in asked:
            yield ast.unparse(node), (value,)
        elif isinstance(value, (tuple, list, set, frozenset)) and all(isinstance(s, str) for s in value):
            yield ast.unparse(node), tuple(value)


def _receivers(test: ast.expr) -> set[str]:
    """Variables that are looked into, or compared with another: text.find(key), key in text, text == key."""
    found: set[str] = set()
    for node in ast.walk(test):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
                found.add(name)
            case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[ast.Name(id=name)]):
                found.add(name)
            case ast.Compare(left=left, comparators=others):
                found.update(n.id for n in (left, *others) if isinstance(n, ast.Name))
    return found


def _operators(test: ast.expr) -> Iterator[ast.cmpop]:
    for node in ast.walk(test):
        if isinstance(node, ast.Compare):
            yield from node.ops


def _found(test: ast.expr) -> bool:
    """text.find("Conv") != -1."""
    return isinstance(test, ast.Compare) and any(
        isinstance(node, ast.Attribute) and node.attr in ("find", "rfind", "index")
        for node in ast.walk(test.left)
    )


def _spelled(classes: ast.expr) -> Iterator[str]:
    for node in classes.elts if isinstance(classes, (ast.Tuple, ast.List, ast.Set)) else [classes]:
        yield last_name(node) or ast.unparse(node)


def _classes(test: ast.expr, names: dict[str, Any]) -> tuple[type, ...]:
    """The classes that a test names."""
    expression: ast.expr | None = None
    match test:
        case ast.Call(args=[_, classes]):
            expression = classes
        case ast.Compare(comparators=[classes]):
            expression = classes
    if expression is None or isinstance(expression, ast.Constant):
        return ()
    value = eval(compile(ast.Expression(expression), "<test>", "eval"), names)
    found = value if isinstance(value, (tuple, list, set)) else (value,)
    return tuple(cls for cls in found if isinstance(cls, type))
