"""What is linted: `module:attr` and `path/to/file.py:attr`, parsed and never evaluated as text."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from initlint.errors import TargetError
from initlint.source import file_tree, shortened

if TYPE_CHECKING:
    pass


MOST_NAMES = 8  #: of a file's definitions
LONGEST = 4096  #: characters of a target; Linux' own limit of a path


@dataclass(frozen=True, slots=True)
class Target:
    """One model to lint, and how.

    `name` is what was asked for. `model`, `inputs` and `loss` are `module:attr` or `file.py:attr`;
    files are relative to `folder`, which is importable, and then the working directory.
    """

    name: str
    model: str
    folder: str
    inputs: str | None = None
    input_shape: str | None = None
    loss: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    seed: int = 0
    probe: bool = True


@dataclass(frozen=True, slots=True)
class Spec:
    """A target's text, taken apart: where to import, which attribute, and the literal arguments of a call."""

    text: str
    source: str
    attributes: tuple[str, ...]
    called: bool = False
    arguments: tuple[object, ...] = ()
    keywords: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """The source is a path, not the name of a module."""
        return self.source.endswith(".py") or "/" in self.source or os.sep in self.source

    @property
    def attribute(self) -> str:
        """The dotted attribute."""
        return ".".join(self.attributes)


# ---------------------------------------------------------------- reading the text
def parse(text: str) -> Spec:
    """Read `module:attr`, `file.py:attr`, `module:attr.attr` or `module:attr(literal, key=literal)`."""
    if len(text) > LONGEST:
        raise unusable(text, f"is {len(text)} characters long, more than {LONGEST}")
    if not text.strip():
        raise unusable(text, "is empty; a target reads module:attr or file.py:attr")
    if not text.isprintable():
        raise unusable(text, "holds a line break or another character that cannot be printed")
    for match in re.finditer(":", text):
        expression = _expression(text[match.end() :])
        if expression is not None:
            return _spec(text, text[: match.start()], expression)
    source, colon, attribute = text.rpartition(":")
    if not colon or os.path.exists(text):
        named = f"names no attribute; a target reads {shortened(text)}:NAME"
        raise unusable(text, f"{named}{_definitions(text)}")
    if not attribute:
        raise unusable(text, f"names no attribute after the colon; a target reads {shortened(source)}:NAME")
    raise unusable(
        text,
        f"has {shortened(attribute)!r} after the colon, which is no name and no call with literal arguments",
    )


def _definitions(file: str) -> str:
    """The functions and classes of a file, as the end of a sentence."""
    parsed = file_tree(os.path.abspath(file)) if os.path.isfile(file) else None
    defined = [
        node.name
        for node in (parsed.body if parsed is not None else ())
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    shown = ", ".join([*defined[:MOST_NAMES], *(["…"] if len(defined) > MOST_NAMES else [])])
    return f", where NAME is one of {shown}" if len(defined) > 1 else f", with {shown}" if shown else ""


def _expression(text: str) -> ast.Name | ast.Attribute | ast.Call | None:
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    called = body.func if isinstance(body, ast.Call) else body
    while isinstance(called, ast.Attribute):
        called = called.value
    if isinstance(called, ast.Name) and isinstance(body, (ast.Name, ast.Attribute, ast.Call)):
        return body
    return None


def _spec(text: str, source: str, body: ast.Name | ast.Attribute | ast.Call) -> Spec:
    if not source.strip():
        raise unusable(text, "names no module before the colon; a target reads module:attr or file.py:attr")
    reference = body.func if isinstance(body, ast.Call) else body
    attributes = tuple(ast.unparse(reference).split("."))
    if not isinstance(body, ast.Call):
        return Spec(text, source.strip(), attributes)
    arguments = tuple(_literal(text, node) for node in body.args)
    keywords = {}
    for keyword in body.keywords:
        if keyword.arg is None:
            raise unusable(
                text,
                f"unpacks **{shortened(ast.unparse(keyword.value))}; only literal arguments can be given",
            )
        keywords[keyword.arg] = _literal(text, keyword.value)
    return Spec(text, source.strip(), attributes, True, arguments, keywords)


def _literal(text: str, node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        argument = shortened(ast.unparse(node))
        raise unusable(
            text, f"has the argument {argument}; only literals can be given (numbers, strings, lists, …)"
        ) from None


def unusable(text: str, why: str) -> TargetError:
    """The error of a target that cannot be used as it is written."""
    return TargetError("import", "ValueError", f"the target {shortened(text)!r} {why}")
