"""Liveness of a value that a line computes: whether anything can still read it."""

from __future__ import annotations

import ast
import dis
import functools
from collections.abc import Iterator
from typing import Literal

from initlint.source.frames import Instruction, position
from initlint.source.syntax import Function, bindings, code_tree, variables

Liveness = Literal["kept", "dropped", "returned", "rebound", "unread", "entry"]
#: Methods of a module that list its tensors.
LISTING = frozenset({"parameters", "named_parameters", "state_dict"})
_MAPPINGS = frozenset({"named_parameters", "state_dict"})
_ENDS: dict[str, Liveness] = {"POP_TOP": "dropped", "RETURN_VALUE": "returned"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

Tree = Function | ast.Module
Assignment = ast.Assign | ast.AnnAssign


@functools.lru_cache(maxsize=4096)
def liveness(instruction: Instruction) -> Liveness:
    """What becomes of the value that an instruction computes.

    "dropped": an expression statement computes it. "returned": the caller decides. "rebound": it takes the
    place of the variable that runs over parameters, and nothing reads it there. "unread": likewise of
    another variable; those of a file count only if the value was computed from what they held. "entry": it
    replaces an entry of a dict of a module's tensors that goes nowhere but into load_state_dict.
    """
    code, offset = instruction
    step = next((i for i in dis.get_instructions(code) if i.offset > offset), None)
    if step is None or step.opname in _ENDS:
        return _ENDS[step.opname] if step is not None else "kept"
    tree = code_tree(code) if step.opname.startswith("STORE_") or LISTING & set(code.co_names) else None
    assignment = _assignment(tree, instruction) if tree is not None else None
    if tree is None or assignment is None:
        return "kept"
    ((target, value),) = bindings(assignment)
    if isinstance(target, ast.Name):
        return _variable_fate(tree, target.id, assignment, value)
    entry = isinstance(target, ast.Subscript) and _only_loaded(tree, target.value)
    return "entry" if entry else "kept"


def _assignment(tree: ast.AST, instruction: Instruction) -> Assignment | None:
    """The assignment to one target whose whole value an instruction computes."""
    spot = position(instruction)
    for node in ast.walk(tree):
        match node, bindings(node):
            case (ast.Assign() | ast.AnnAssign(), [(_, value)]):
                if (value.lineno, value.end_lineno, value.col_offset, value.end_col_offset) == spot:
                    return node
    return None


# ---------------------------------------------------------------- variables


def _variable_fate(tree: Tree, name: str, assignment: ast.stmt, value: ast.expr) -> Liveness:
    following, _ = next(_continuations(tree.body, name, assignment), ((), ()))
    match following:
        case [ast.Return(value=ast.Name(id=returned)), *_] if returned == name:
            return "returned"
    if _read_after(tree, name, assignment):
        return "kept"
    if _runs_over_parameters(tree, name, assignment):
        return "rebound"
    return "kept" if isinstance(tree, ast.Module) and not _reads(value, name) else "unread"


def _runs_over_parameters(tree: ast.AST, name: str, assignment: ast.stmt) -> bool:
    """A loop around the assignment has the name run over what lists a module's tensors."""
    return any(
        isinstance(loop, ast.For)
        and name in variables(loop.target)
        and LISTING & {node.attr for node in ast.walk(loop.iter) if isinstance(node, ast.Attribute)}
        and any(node is assignment for node in ast.walk(loop))
        for loop in ast.walk(tree)
    )


def _read_after(tree: Tree, name: str, at: ast.stmt) -> bool:
    """Something may read the name after a statement, before it is given another value."""
    for node in ast.walk(tree):
        inside = isinstance(node, _FUNCTIONS) and node is not tree and _reads(node, name)
        if inside or (isinstance(node, (ast.Global, ast.Nonlocal)) and name in node.names):
            return True
    for following, detours in _continuations(tree.body, name, at):
        if any(_first_effect(statements, name) == "read" for statements in (following, *detours)):
            return True
        if _first_effect(following, name) == "written":
            return False
    return False


def _continuations(
    statements: list[ast.stmt], name: str, at: ast.stmt
) -> Iterator[tuple[list[ast.stmt], list[list[ast.stmt]]]]:
    """Statements that follow one of them, or one inside them, from the inside out, and ways that come first.

    A loop comes there again unless it sets the name anew. The other branch of an `if` does not run.
    """
    for index, statement in enumerate(statements):
        if statement is not at and not any(node is at for node in ast.walk(statement)):
            continue
        detours: list[list[ast.stmt]] = []
        match statement:
            case ast.For(target=target, body=body) | ast.AsyncFor(target=target, body=body):
                detours = [] if name in variables(target) else [body]
            case ast.While(test=test, body=body):
                detours = [[ast.Expr(test), *body]]
            case ast.Try(handlers=handlers, orelse=other, finalbody=last):
                detours = [*(handler.body for handler in handlers), other, last]
        for branch in _branches(statement):
            yield from _continuations(branch, name, at)
        yield statements[index + 1 :], detours


def _branches(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The blocks of statements inside a statement."""
    for field in ("body", "orelse", "finalbody"):
        block = getattr(statement, field, None)
        if isinstance(block, list) and not isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
            yield block
    for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield part.body


def _first_effect(statements: list[ast.stmt], name: str) -> Literal["read", "written"] | None:
    """What the first of the statements that speaks of the name does to it."""
    for statement in statements:
        match statement:
            case ast.For(target=target, iter=value) | ast.AsyncFor(target=target, iter=value):
                if name in variables(target) and not _reads(value, name):
                    return "written"
        if _reads(statement, name):
            return "read"
        if name in variables(*(target for target, _ in bindings(statement))):
            return "written"
    return None


def _reads(node: ast.AST, name: str) -> bool:
    """The name is read, or changed in place; a function's own variable of that name is another one."""
    if isinstance(node, _FUNCTIONS) and _has_own(node, name):
        return False
    if isinstance(node, ast.Name):
        return node.id == name and isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.AugAssign) and name in variables(node.target):
        return True
    return any(_reads(child, name) for child in ast.iter_child_nodes(node))


def _has_own(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, name: str) -> bool:
    stored = False
    for node in ast.walk(function):
        if isinstance(node, (ast.Global, ast.Nonlocal)) and name in node.names:
            return False
        given = isinstance(node, ast.arg) and node.arg == name
        stored |= given or (
            isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load)
        )
    return stored


# ---------------------------------------------------------------- dicts


def _only_loaded(tree: ast.AST, mapping: ast.expr) -> bool:
    """A dict comes from a module's tensors and is handed to nothing but load_state_dict."""
    if not isinstance(mapping, ast.Name):
        return _is_tensor_dict(mapping)
    made = [
        value
        for node in ast.walk(tree)
        if isinstance(node, Assignment)
        for target, value in bindings(node)
        if isinstance(target, ast.Name) and target.id == mapping.id
    ]
    if not made or not all(map(_is_tensor_dict, made)):
        return False
    looked_into = {id(part) for part in _harmless_reads(tree)}
    return all(
        id(node) in looked_into
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == mapping.id and isinstance(node.ctx, ast.Load)
    )


def _harmless_reads(tree: ast.AST) -> Iterator[ast.expr]:
    """What code reads elements or attributes of, runs over, compares with, measures or loads."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=part) | ast.Attribute(value=part):
                yield part
            case ast.For(iter=part) | ast.comprehension(iter=part):
                yield part
            case ast.Compare(comparators=parts):
                yield from parts
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=parts):
                if name in ("load_state_dict", "list", "len"):
                    yield from parts


def _is_tensor_dict(value: ast.expr) -> bool:
    """A call that puts a module's tensors into a new dict: m.state_dict(), dict(m.named_parameters())."""
    match value:
        case ast.Call(func=ast.Attribute(attr="state_dict")):
            return True
        case ast.Call(
            func=ast.Name(id="dict" | "OrderedDict"), args=[ast.Call(func=ast.Attribute(attr=name))]
        ):
            return name in _MAPPINGS
    return False
