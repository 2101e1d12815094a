"""Tests in initialisers that missed what they were plainly meant for.

A test that nothing passed is common: a helper knows more layers than the model has. It tells of a slip if
the build asked it of a near relative: a name that ends in the literal, a class of the same family, an
attribute spelled almost alike, a container that holds the very class. How alike two spellings must be to
tell of a slip is for a rule to say.

Needs the live model: which of its modules and tensors are the very objects that a test was asked of, their
classes with all bases, and their attributes.
"""

from __future__ import annotations

import ast
import difflib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from initlint.construct.branch_log import Question
from initlint.evidence import MemberTest, Miss, Provenance
from initlint.finding import Site
from initlint.source import Positions, outside, package

_UNLIKE = 0.5  # of difflib: spellings that share less than half of their letters are not noted
_LOCAL = frozenset({"weight", "bias"})
_SHORTEST = 3  # letters below which parts of names coincide by chance
_ORDINARY = frozenset(vars(nn.Module())) | {"weight", "bias", "in_features", "out_features"}
_GENERAL = frozenset({nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, object})


def member_tests(
    questions: Iterable[Question],
    modules: Sequence[tuple[str, nn.Module]],
    tensors: Mapping[str, torch.Tensor],
    provenance: Mapping[str, Provenance],
    positions: Positions,
) -> tuple[MemberTest, ...]:
    """Of all tests that were asked, those that missed members of the model."""
    asked = tuple(questions)
    view = _Model(dict(modules), tensors, provenance)
    found: dict[tuple[object, ...], MemberTest] = {}
    for question in asked:
        if not question.branch:
            continue
        match question.kind:
            case "name":
                missed = _names(question, asked, view) or _likest(question, view)
            case "class":
                missed = _relatives(question, view)
            case "attribute":
                missed = _attributes(question, view)
        matched = tuple(dict.fromkeys(m for name in sorted(question.matched) for m in view.members(name)))
        if missed or matched:
            test = MemberTest(
                _site(question),
                ast.unparse(question.node),
                question.kind,
                question.passed,
                missed,
                question.literals,
                names=len(question.strings()),
                matched=matched,
            )
            if not test.literal and question.caller and outside(question.caller[0].co_filename):
                test = replace(test, caller=positions.site(question.caller))
            found[test.site, test.text] = test
        for test in _handed(question, view, positions):
            found.setdefault((test.caller, test.near), test)
    return tuple(found.values())


def _site(question: Question) -> Site:
    code = question.code
    return Site(code.co_filename, question.node.lineno, code.co_name, package(code.co_filename))


@dataclass(frozen=True, slots=True)
class _Model:
    modules: Mapping[str, nn.Module]
    tensors: Mapping[str, torch.Tensor]
    provenance: Mapping[str, Provenance]

    def members(self, name: str) -> Iterator[str]:
        """Parameters and modules with this name, at the root or below."""
        if name in self.tensors or name in self.modules:
            yield name
            return
        for known in (*self.tensors, *self.modules):
            if known.endswith("." + name):
                yield known

    def untouched(self, path: str) -> bool:
        """A module's own matrices hold what a constructor of torch.nn drew, and no line wrote them."""
        matrices = [
            self.provenance[name]
            for local, parameter in self.modules[path]._parameters.items()
            if parameter is not None and parameter.dim() > 1
            if (name := f"{path}.{local}".lstrip(".")) in self.provenance
        ]
        return bool(matrices) and all(
            not origin.explicit and origin.last_write is not None and origin.last_write.default
            for origin in matrices
        )

    def paths(self, objects: Mapping[int, object]) -> Iterator[tuple[str, nn.Module]]:
        """Modules among these objects, with their path."""
        for path, module in self.modules.items():
            if id(module) in objects:
                yield path, module


# ---------------------------------------------------------------- names


def _names(question: Question, asked: Iterable[Question], view: _Model) -> tuple[Miss, ...]:
    """Names that the literal was plainly meant for, if no name passed."""
    if question.passed:
        return ()
    others = [
        other
        for other in asked
        if other is not question and other.code is question.code and other.kind == "name" and other.passed
    ]
    near = [
        name
        for name in question.strings()
        if any(_meant(literal, name, question.node) for literal in question.literals)
        and not any(_passes(other, name) for other in others)
    ]
    return _named(near, view, "name")


def _likest(question: Question, view: _Model) -> tuple[Miss, ...]:
    """Names with the part that is spelled most like the literal, if none passed; of the user's code only."""
    if question.passed or package(question.code.co_filename) is not None:
        return ()
    wanted = {part for literal in question.literals for part in literal.split(".")} - _LOCAL - {""}
    scores = {
        name: max(
            (_ratio(part, other) for part in wanted for other in set(name.split(".")) - _LOCAL), default=0.0
        )
        for name in question.strings()
    }
    best = max(scores.values(), default=0.0)
    near = [name for name, score in scores.items() if score == best >= _UNLIKE]
    return _named(near, view, "part", best)


def _named(
    names: Iterable[str], view: _Model, relation: Literal["name", "part"], similarity: float = 1.0
) -> tuple[Miss, ...]:
    found: dict[str, Miss] = {}
    for name in names:
        for member in view.members(name):
            found.setdefault(member, Miss(member, relation, name, similarity))
    return tuple(found.values())


def _ratio(part: str, other: str) -> float:
    return difflib.SequenceMatcher(None, part, other).ratio()


def _passes(question: Question, name: str) -> bool:
    try:
        return question.holds(name)
    except Exception:  # the test knows other variables
        return False


def _meant(literal: str, name: str, test: ast.expr) -> bool:
    """The name has the literal as its own part, or differs from it in case and separators alone."""
    plain, wanted = _plain(name), _plain(literal)
    if len(wanted) < _SHORTEST:
        return False
    if (
        isinstance(test, ast.Call)
        and isinstance(test.func, ast.Attribute)
        and test.func.attr in ("match", "fullmatch")
    ):
        try:
            return re.search(literal, name) is not None
        except re.error:
            return False
    equality = any(
        isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.In)) and literal not in name
        for node in ast.walk(test)
    )
    if f".{literal.strip('.')}" in f".{name}":
        return not isinstance(test, ast.Compare) or f".{name}".endswith(f".{literal.strip('.')}")
    return plain.endswith(wanted) if equality else wanted in plain


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold())


# ---------------------------------------------------------------- classes


def _relatives(question: Question, view: _Model) -> tuple[Miss, ...]:
    """Modules of a kindred class, or inside what was asked about, that nothing initialised."""
    objects = question.objects()
    missed: dict[str, Miss] = {}
    for path, module in view.paths(objects):
        if _kindred(type(module), question) and view.untouched(path):
            missed[path] = Miss(path, "class", type(module).__name__)
    if not question.passed and question.classes:
        outer = {path for path, _ in view.paths(objects)}
        for path, module in view.modules.items():
            unasked = isinstance(module, question.classes) and id(module) not in objects
            if unasked and outer & set(_above(path)) and view.untouched(path):
                missed.setdefault(path, Miss(path, "unasked", type(module).__name__))
    strings = {name.casefold() for name in question.strings()}
    for path, module in view.modules.items() if strings else ():
        name = type(module).__name__.casefold()
        if name in strings and _kindred(type(module), question) and view.untouched(path):
            missed[path] = Miss(path, "spelling", type(module).__name__)
    return tuple(missed.values())


def _handed(question: Question, view: _Model, positions: Positions) -> Iterator[MemberTest]:
    """Parameters that a helper was handed although it tests for modules, and that nothing wrote."""
    objects = question.objects() if question.kind != "name" and question.callers else {}
    for name, tensor in view.tensors.items():
        if id(tensor) not in objects or tensor.dim() < 2 or view.provenance[name].explicit:
            continue
        attributes = question.literals if question.kind == "attribute" else ()
        if any(hasattr(tensor, attribute) for attribute in attributes):
            continue  # it had the attribute, with a value that did not pass
        yield MemberTest(
            _site(question),
            ast.unparse(question.node),
            "object",
            question.passed,
            (Miss(name, "handed", type(tensor).__name__),),
            attributes,
            caller=positions.site(question.callers[id(tensor)]),
        )


def _above(path: str) -> Iterator[str]:
    """Paths of the modules that hold this one."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def _kindred(cls: type, question: Question) -> bool:
    """The class is of the family that the test names."""
    bases = set(cls.__mro__) - _GENERAL
    if any(bases & (set(wanted.__mro__) - _GENERAL) for wanted in question.classes):
        return True
    stem = _stem(cls.__name__)
    return any(
        len(wanted := _stem(literal)) > _SHORTEST and (wanted in stem or stem in wanted)
        for literal in question.literals
    )


def _stem(name: str) -> str:
    return re.sub(r"\d+d?$", "", name).casefold()


# ---------------------------------------------------------------- attributes


def _attributes(question: Question, view: _Model) -> tuple[Miss, ...]:
    """Modules with an attribute spelled somewhat like the one asked for, if none has it."""
    if question.passed:
        return ()
    literal = question.literals[0]
    missed: dict[str, Miss] = {}
    for path, module in view.paths(question.objects()):
        own = {*vars(module), *module._parameters, *module._modules, *module._buffers} - _ORDINARY
        similarity, close = max(((_similarity(literal, name), name) for name in own), default=(0.0, ""))
        if similarity >= _UNLIKE:
            missed[path] = Miss(path, "attribute", close, similarity)
    return tuple(missed.values())


@functools.lru_cache(maxsize=4096)  # modules of one class ask the same
def _similarity(literal: str, name: str) -> float:
    a, b = _plain(literal), _plain(name)
    if min(len(a), len(b)) <= _SHORTEST:
        return 0.0
    return 1.0 if a in b or b in a else _ratio(a, b)
