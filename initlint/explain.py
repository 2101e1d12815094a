"""Rules in Markdown: the page of one rule, and the table of all."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable

from initlint.finding import Figure
from initlint.rule import Example, Rule


def page(rule: type[Rule]) -> str:
    """Everything about one rule: what it says, its options, and the models that it is tried on."""
    lines = [f"# {rule.code} {rule.name}", "", f"Severity: {rule.severity}. {_needs(rule)}", ""]
    lines += [inspect.getdoc(rule) or "", ""]
    if options := rule.options():
        lines += ["## Options", "", *(_option(rule, key, default) for key, default in options.items()), ""]
    lines += [line for example in rule.examples for line in _example(example)]
    return "\n".join(lines).rstrip() + "\n"


def table(rules: Iterable[type[Rule]]) -> str:
    """Code, name, severity and fact of every rule, as a Markdown table."""
    rows = [(rule.code, rule.name, rule.severity, rule.summary().rstrip(".")) for rule in rules]
    header = ("code", "name", "severity", "finds")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, tuple("-" * width for width in widths), *rows]
    cells = ([f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _needs(rule: type[Rule]) -> str:
    measured = sorted(rule.needs - {"provenance", "statistics"})
    return f"Needs: {', '.join(measured)}." if measured else "Reads the values alone."


def _option(rule: type[Rule], key: str, default: Figure) -> str:
    value = str(default).lower() if isinstance(default, bool) else repr(default)
    return f"- `{key} = {value}` in `[tool.initlint.rules.{rule.name}]`"


def _example(example: Example) -> list[str]:
    where = ", ".join(f"`{name or 'the model'}`" for name in example.finds)
    title = f"## Finds: {where}" if example.finds else "## Stays silent"
    source = textwrap.dedent(inspect.getsource(example.build)).rstrip()
    return [title, "", "```python", source, "```", ""]
