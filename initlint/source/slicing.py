"""The backward slice (Weiser 1981) of a write: where the numbers come from that its call was given.

`nn.init.normal_(w, std=self.head_std())` is the line that wrote, but what a user has to change may be the
return line of `head_std`, a class attribute, the default of an argument or the call that passed another
value. Those lines are read from the source, from the line that wrote outwards.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from initlint.evidence import MemberTest, Provenance
from initlint.finding import Location, Site
from initlint.source.syntax import (
    Function,
    bindings,
    file_tree,
    last_name,
    nodes,
    own_attribute,
    simple_statement,
    statements_at,
)

_STEPS = 4  # from the init call to a line behind it
#: Methods of nn.Module that list its parts.
_WALKS = frozenset(
    f"{named}{parts}"
    for named in ("", "named_")
    for parts in ("children", "modules", "parameters", "buffers")
)
#: Functions whose positional arguments are sizes.
_SIZED = frozenset({"empty", "rand", "randn", "randint", "zeros", "ones", "uniform", "normal"})


def slice_of_test(test: MemberTest, classes: tuple[type, ...] = ()) -> Iterator[Location]:
    """Lines that hold the strings which a test looks for, where it does not spell them itself."""
    way = (test.site,) if test.caller is None else (test.site, test.caller)
    scope = _scope(way, classes) if test.site.package is None else None
    if scope is None:
        return
    for reference in _references(ast.parse(test.text, mode="eval").body):
        trail = list(_slice([(reference, scope)]))
        parts = (part for source in trail if source.value is not None for part in ast.walk(source.value))
        if any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in parts):
            yield from map(_location, trail)


def slice_of_write(provenance: Provenance, classes: tuple[type, ...] = ()) -> Iterator[Location]:
    """Lines that the arguments of the last write come from, nearest first.

    `classes` are those of the model's modules: what `self` may be in their methods.
    """
    write = provenance.last_write
    if write is None or write.default or write.site.package is not None:
        return
    given: list[tuple[ast.expr, _Scope]] = []
    for one in (write, *provenance.origins):
        scope = _scope((one.site, *one.callers), classes)
        if scope is not None:
            given.extend((expression, scope) for expression in _operands(scope))
    places = map(_location, _slice(given))
    yield from (place for place in places if place.site != write.site)


def _slice(given: Iterable[tuple[ast.expr, _Scope]]) -> Iterator[_Source]:
    """Where the values of expressions come from, and what those came from; each line once."""
    seen: set[tuple[str, int]] = set()
    queue = deque((expression, scope, 0) for expression, scope in given)
    while queue:
        expression, scope, steps = queue.popleft()
        for reference in _references(expression):
            for source in _sources(reference, scope):
                if (source.scope.file, source.line) not in seen:
                    seen.add((source.scope.file, source.line))
                    yield source
                if steps < _STEPS and source.value is not None:
                    queue.append((source.value, source.scope, steps + 1))


def _location(source: _Source) -> Location:
    return Location(Site(source.scope.file, source.line, source.scope.name), source.what)


@dataclass(frozen=True, slots=True)
class _Scope:
    """A line, the function and class around it, and the lines that led there, innermost first."""

    file: str
    line: int
    around: tuple[ast.AST, ...] = ()  # classes and functions, outermost first
    callers: tuple[Site, ...] = ()
    classes: tuple[type, ...] = ()  # of the model

    @property
    def function(self) -> Function | None:
        """The innermost function."""
        return next((node for node in reversed(self.around) if isinstance(node, Function)), None)

    @property
    def name(self) -> str:
        """The name of that function."""
        return self.function.name if self.function is not None else "<module>"

    def owner(self) -> tuple[type, ...]:
        """Class of `self`, as one of the model's, with its bases."""
        inside = [n for n in self.around if isinstance(n, ast.ClassDef)]
        for cls in self.classes if inside else ():
            if any(base.__name__ == inside[-1].name and _file(base) == self.file for base in cls.__mro__):
                return cls.__mro__
        return ()


class _Source(NamedTuple):
    """A line that a value comes from, what happens there, and the expression it is computed by."""

    line: int
    what: str
    value: ast.expr | None
    scope: _Scope


def _file(cls: type) -> str:
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or ""


def _scope_at(file: str, line: int, callers: tuple[Site, ...], classes: tuple[type, ...]) -> _Scope | None:
    if file_tree(file) is None:
        return None
    around = (n for n in reversed(statements_at(file, line)) if isinstance(n, Function | ast.ClassDef))
    return _Scope(file, line, tuple(around), callers, classes)


def _scope(way: tuple[Site, ...], classes: tuple[type, ...]) -> _Scope | None:
    return _scope_at(way[0].file, way[0].line, way[1:], classes)


def _operands(scope: _Scope) -> Iterator[ast.expr]:
    """What the line computes with: the arguments of its call, or what it assigns; the tensor comes last."""
    match simple_statement(scope.file, scope.line):
        case ast.Expr(value=ast.Call(func=function, args=args, keywords=keywords)):
            tensor: ast.expr | None = None
            match function:
                case ast.Name() | ast.Attribute(value=ast.Name(id="init") | ast.Attribute(attr="init")):
                    tensor, args = next(iter(args), None), args[1:]
                case ast.Attribute(value=ast.Call() | ast.BinOp() as receiver):
                    yield receiver
                case ast.Attribute(value=receiver):
                    tensor = receiver
            yield from args
            yield from (keyword.value for keyword in keywords)
            while isinstance(tensor, ast.Attribute):
                tensor = tensor.value
            if isinstance(tensor, ast.Name) and tensor.id not in ("self", "nn", "torch"):
                yield from _member_choice(tensor, scope)
        case (
            ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value) | ast.AugAssign(value=value)
        ) | ast.Return(value=ast.expr() as value):
            yield value


def _member_choice(member: ast.Name, scope: _Scope) -> Iterator[ast.expr]:
    """The call of one's own method that names the members which a loop runs over, or whose parameters."""
    wanted = {member.id}
    loops = [node for node in ast.walk(scope.function or member) if isinstance(node, ast.For)]
    for loop in sorted(loops, key=lambda loop: -loop.lineno):
        match loop:
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Attribute(attr=method) as called)):
                if name not in wanted or not loop.lineno <= scope.line <= (loop.end_lineno or 0):
                    continue
                if own_attribute(called) and method not in _WALKS:
                    yield loop.iter
                elif isinstance(called.value, ast.Name):
                    wanted.add(called.value.id)


def _references(node: ast.AST) -> Iterator[ast.expr]:
    """Names, attributes and calls whose values an expression is made of."""
    match node:
        case ast.Call(func=function, args=args, keywords=keywords):
            if isinstance(function, ast.Name) or own_attribute(function):
                yield node
            elif isinstance(function, ast.Attribute) and not isinstance(function.value, ast.Name):
                yield from _references(function.value)
            sized = isinstance(function, ast.Attribute) and function.attr.removesuffix("_like") in _SIZED
            for part in () if sized else args:
                yield from _references(part)
            for keyword in keywords:
                yield from _references(keyword.value)
        case ast.Attribute(value=ast.Name() | ast.Attribute()) | ast.Name():
            yield node
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _references(child)


def _sources(reference: ast.expr, scope: _Scope) -> Iterator[_Source]:
    match reference:
        case ast.Call(func=ast.Name(id=name)):
            defined = [
                inner
                for node in (*reversed(scope.around), file_tree(scope.file))
                for inner in getattr(node, "body", ())
                if isinstance(inner, Function) and inner.name == name
            ]
            for function in defined:
                yield from _returns(function, scope.file, scope)
            if not defined:
                yield from _variable(name, scope)
        case ast.Call(func=ast.Attribute(attr=name)):
            yield from _member(name, scope, called=True)
        case ast.Attribute(attr=name) if own_attribute(reference):
            yield from _member(name, scope, called=False)
        case ast.Attribute(attr=name):
            yield from _field_default(name, scope)
        case ast.Name(id=name):
            yield from _variable(name, scope)


def _returns(function: Function, file: str, scope: _Scope) -> Iterator[_Source]:
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            inner = _scope_at(file, node.value.lineno, (), scope.classes)
            if inner is not None:
                yield _Source(node.value.lineno, f"returned by {function.name}", node.value, inner)


def _member(name: str, scope: _Scope, *, called: bool) -> Iterator[_Source]:
    """What `self.name` is: a method's result, a class attribute, or what a method assigned."""
    for base in scope.owner():
        if name in vars(base) and base.__module__.partition(".")[0] != "torch":
            value: Any = inspect.getattr_static(base, name)
            code = getattr(
                getattr(value, "fget", None) or getattr(value, "__func__", value), "__code__", None
            )
            file = code.co_filename if code is not None else _file(base)
            for definition in _definitions(file, base.__name__):
                for node in definition.body:
                    if isinstance(node, Function) and node.name == name:
                        yield from _returns(node, file, scope)
                    elif (value := _assigned_value(node, lambda target: _is_name(target, name))) is not None:
                        yield from _assignment(node, value, f"{base.__name__}.{name} is set", file, scope)
            return
    if called:
        return
    for base in scope.owner():
        for definition in _definitions(_file(base), base.__name__):
            for node in _statements(definition):
                value = _assigned_value(node, lambda target: own_attribute(target) == name)
                if value is not None:
                    yield from _assignment(node, value, f"self.{name} is set", _file(base), scope)
                    return


def _definitions(file: str, name: str) -> Iterator[ast.ClassDef]:
    return (n for n in nodes(file_tree(file)) if isinstance(n, ast.ClassDef) and n.name == name)


def _assignment(node: ast.stmt, value: ast.expr, what: str, file: str, scope: _Scope) -> Iterator[_Source]:
    """The line of an assignment, read in the call that ran it where that is known."""
    inner = _scope_at(file, node.lineno, (), scope.classes)
    if inner is None or _makes_module(value):
        return
    for i, caller in enumerate(scope.callers):
        ran = inner.function
        if ran is not None and caller.file == file and ran.lineno <= caller.line <= (ran.end_lineno or 0):
            inner = replace(inner, callers=scope.callers[i + 1 :])
            break
    yield _Source(node.lineno, f"{what} here", value, inner)


def _makes_module(value: ast.expr) -> bool:
    """A module or parameter comes out of it, no number."""
    match value:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="nn")) | ast.Attribute(attr="Parameter")):
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name[:1].isupper()
    return False


def _statements(tree: ast.AST | None) -> Iterator[ast.stmt]:
    return (node for node in nodes(tree) if isinstance(node, ast.stmt))


def _is_name(target: ast.expr, name: str) -> bool:
    return isinstance(target, ast.Name) and target.id == name


def _assigned_value(node: ast.stmt, wanted: Callable[[ast.expr], bool]) -> ast.expr | None:
    """The expression that a statement gives to such a target."""
    found = (_part(target, value, wanted) for target, value in bindings(node))
    return next((part for part in found if part is not None), None)


def _part(target: ast.expr, value: ast.expr, wanted: Callable[[ast.expr], bool]) -> ast.expr | None:
    """What `a, b = 1, 2` gives to b, what `for a, b in ((1, 2), (3, 4))` gives to b is (2, 4)."""
    if wanted(target):
        return value
    if not isinstance(target, (ast.Tuple, ast.List)):
        return None
    for i, inner in enumerate(target.elts):
        given = value
        if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
            given = value.elts[i]
        part = _part(inner, given, wanted)
        if part is not None:
            return part
    return None


def _field_default(name: str, scope: _Scope) -> Iterator[_Source]:
    """The one class attribute of that name in the file: the default of a configuration's field."""
    found = [
        (inner, value)
        for node in _statements(file_tree(scope.file))
        if isinstance(node, ast.ClassDef)
        for inner in node.body
        if (value := _assigned_value(inner, lambda target: _is_name(target, name))) is not None
    ]
    if len(found) == 1:
        yield from _assignment(*found[0], f"{name} is set", scope.file, scope)


def _variable(name: str, scope: _Scope) -> Iterator[_Source]:
    def wanted(target: ast.expr) -> bool:
        return _is_name(target, name)

    for function in (node for node in reversed(scope.around) if isinstance(node, Function)):
        before = [
            (node.lineno, value)
            for node in _statements(function)
            if node.lineno < scope.line and (value := _assigned_value(node, wanted)) is not None
        ]
        loops = [
            (node.iter, rows)
            for node in _statements(function)
            if isinstance(node, ast.For) and node.lineno <= scope.line <= (node.end_lineno or 0)
            if (rows := _row(node, wanted)) is not None
        ]
        if before:
            line, value = max(before, key=lambda pair: pair[0])
            if not _makes_module(value):
                yield _Source(line, f"{name} is set here", value, scope)
            return
        if loops:
            iterated, rows = loops[-1]
            match iterated:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=mapping), attr="items" | "values")):
                    yield from _variable(mapping, scope)
                case _ if not _runs_over_members(iterated):
                    yield _Source(iterated.lineno, f"{name} runs over these", rows, scope)
            return
        if any(argument.arg == name for argument in _arguments(function)):
            yield from _passed_values(name, function, scope)
            return
    parsed = file_tree(scope.file)
    for statement in parsed.body if parsed is not None else ():
        if (value := _assigned_value(statement, wanted)) is not None:
            yield from _assignment(statement, value, f"{name} is set", scope.file, scope)
        elif isinstance(statement, Function) and statement.name == name:
            yield from _returns(statement, scope.file, scope)


def _row(loop: ast.For, wanted: Callable[[ast.expr], bool]) -> ast.expr | None:
    """What a loop variable runs over."""
    match loop.iter:
        case ast.Tuple(elts=rows) | ast.List(elts=rows):
            parts = [part for row in rows if (part := _part(loop.target, row, wanted)) is not None]
            return ast.Tuple(elts=parts, ctx=ast.Load()) if parts else None
    return _part(loop.target, loop.iter, wanted)


def _runs_over_members(iterated: ast.expr) -> bool:
    """A loop over members of a module."""
    return any(isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) for n in ast.walk(iterated))


def _arguments(function: Function) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _passed_values(name: str, function: Function, scope: _Scope) -> Iterator[_Source]:
    """The line that called the function with this argument, else that of its default."""
    inmost = function is scope.function
    for i in range(len(scope.callers[:1] if inmost else scope.callers)):
        caller = _scope(scope.callers[i:], scope.classes)  # a closure was made somewhere on the way
        for call in _calls(caller, function) if caller is not None else ():
            value = _argument(call, name, function)
            if value is not None and caller is not None:
                yield _Source(caller.line, f"passes {name}", value, caller)
                return
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[tuple[ast.arg, ast.expr | None]] = [
        *zip(positional[::-1], arguments.defaults[::-1], strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in defaults:
        if argument.arg == name and default is not None:
            yield _Source(default.lineno, f"the default of {name}", default, scope)


def _calls(caller: _Scope, function: Function) -> Iterator[ast.Call]:
    """Calls of the function, or of its class, in the caller's statement."""
    owners = {node.name for node in caller.around if isinstance(node, ast.ClassDef)}
    for node in nodes(simple_statement(caller.file, caller.line)):
        if isinstance(node, ast.Call):
            called = last_name(node.func)
            if called == function.name or (function.name == "__init__" and called not in owners):
                yield node


def _argument(call: ast.Call, name: str, function: Function) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    names = names[1:] if names[:1] in (["self"], ["cls"]) else names
    if name not in names or any(isinstance(argument, ast.Starred) for argument in call.args):
        return None
    position = names.index(name)
    return call.args[position] if position < len(call.args) else None
