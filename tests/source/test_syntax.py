"""One parser: trees of files and functions, statements at a line, names."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from initlint.source import code_tree, file_tree, last_name, statements_at, unconditional, variables
from initlint.source.syntax import bindings, extended, literals, own_attribute, worked_on


def plain(function: Callable[..., object]) -> Callable[..., object]:
    return function


class Nested:
    @plain
    def method(self, x: int) -> str:
        text = """
not indented
"""
        if x:
            self.x = 1
        with open(text):
            y = x
        return text + str(y)


def parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def test_lines_and_columns_are_those_of_the_file() -> None:
    tree = code_tree(Nested.method.__code__)
    assert isinstance(tree, ast.FunctionDef)
    assert tree.name == "method"
    with open(__file__, encoding="utf-8") as file:
        source = file.read()
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    assert len(names) > 5
    assert all(ast.get_source_segment(source, node) == node.id for node in names)


def test_statements_without_a_condition() -> None:
    kinds = [type(node) for node in unconditional(Nested.method.__code__)]
    assert kinds == [ast.Assign, ast.Assign, ast.Return]


def test_a_lambda_has_no_tree() -> None:
    function = lambda x: x  # noqa: E731
    assert code_tree(function.__code__) is None


@pytest.mark.parametrize(
    "text",
    ["def broken(:", "x = 1\0", "x = " + "(" * 5000 + ")" * 5000, "x = " + "-" * 200_000 + "1"],
    ids=["syntax", "null", "brackets", "operators"],
)
def test_what_is_no_python_has_no_tree(tmp_path: Path, text: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    assert file_tree(str(path)) is None
    assert file_tree(str(tmp_path / "missing.py")) is not None  # nothing to read is an empty file
    assert literals(str(path)) == frozenset()
    assert statements_at(str(path), 1) == ()


def test_statements_at_a_line_are_innermost_first(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "for m in model.modules():\n    if m:\n        init(\n            m, 0.5)\nmodel.head = 3\n"
    )
    around = statements_at(str(path), 4)
    assert [type(node) for node in around] == [ast.Expr, ast.If, ast.For]
    assert worked_on(str(path), 4) == {"model"}
    assert extended(str(path), 5) == "model"
    assert extended(str(path), 3) is None
    assert literals(str(path)) == {0.5, 3.0}


def test_names() -> None:
    assert own_attribute(parsed("self.x")) == own_attribute(parsed("cls.x")) == "x"
    assert own_attribute(parsed("self.x.y")) is None
    assert [last_name(parsed(text)) for text in ("f", "m.n.f", "f()")] == ["f", "f", ""]
    assert variables(parsed("a + b.c(d)")) == {"a", "b", "d"}
    body = ast.parse("a = b = 1\nc: int = 2\nd: int\ne += 3\nf()").body
    found = [[(ast.unparse(t), ast.unparse(v)) for t, v in bindings(node)] for node in body]
    assert found == [[("a", "1"), ("b", "1")], [("c", "2")], [], [("e", "3")], []]
