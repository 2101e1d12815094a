"""Rules in Markdown: the page of one rule, and the table of all.

`python -m initlint.report.pages docs/rules README.md` writes a page for every rule of the installed packs,
and the table of rules in the README.
"""

from __future__ import annotations

import ast
import inspect
import io
import sys
import textwrap
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from initlint.rule import NEEDS

if TYPE_CHECKING:
    from initlint.finding import Figure
    from initlint.rule import Example, Rule


@dataclass(frozen=True, slots=True)
class Prose:
    """The parts of a rule's docstring: the fact, why it matters, what to do, and where that is from."""

    fact: str
    why: str
    remedy: str
    references: tuple[str, ...]


def prose(rule: type[Rule]) -> Prose:
    """The docstring's parts; the last paragraph before the references is what to do."""
    text, _, references = (inspect.getdoc(rule) or "").partition("\nReferences:\n")
    fact, *body = text.strip().split("\n\n")
    return Prose(fact, "\n\n".join(body[:-1]), body[-1] if body else "", tuple(_entries(references)))


def rule_page(rule: type[Rule], *, examples: bool = True) -> str:
    """Everything about one rule: what it says, its options, and the models that it is tried on.

    Reading the models imports torch; without `examples` they are left out.
    """
    text = prose(rule)
    shown = rule.examples if examples else ()
    found = [line for example in shown if example.finds for line in _example(example)]
    silent = [line for example in shown if not example.finds for line in _example(example)]
    sections = {
        "Why": [text.why],
        "What to do": [text.remedy],
        "Options": _options(rule),
        "Found": found,
        "Not found": silent,
        "References": [f"- {entry}" for entry in text.references],
    }
    lines = [f"# {rule.code} {rule.name}", "", text.fact, "", _facts(rule)]
    for title, body in sections.items():
        if any(body):
            lines += ["", f"## {title}", "", "\n".join(body).rstrip()]
    return "\n".join(lines) + "\n"


def rule_table(rules: Iterable[type[Rule]], *, linked: bool = False) -> str:
    """Code, name, severity and fact of every rule, as a Markdown table; linked to the pages."""
    rows = [("code", "name", "severity", "finds")]
    for rule in rules:
        name = f"[{rule.name}]({rule.name}.md)" if linked else rule.name
        rows.append((rule.code, name, rule.severity, rule.summary().rstrip(".")))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule_line = tuple("-" * width for width in widths)
    cells = [[f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in (cells[0], rule_line, *cells[1:]))


def files(rules: Iterable[type[Rule]]) -> dict[str, str]:
    """The pages by file name, with an index."""
    known = list(rules)
    banner = "Written by `python -m initlint.report.pages docs/rules`; change the rule, not its page."
    pages = {f"{rule.name}.md": rule_page(rule) for rule in known}
    return {"README.md": f"# Rules\n\n{banner}\n\n{rule_table(known, linked=True)}"} | pages


def reasons(rule: type[Rule]) -> dict[str, str]:
    """Why each option has its default: the `#:` comment on its line or on the lines above."""
    source = textwrap.dedent(inspect.getsource(rule))
    beside: dict[int, str] = {}
    above: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.string.startswith("#:"):
            alone = token.line.lstrip().startswith("#:")
            (above if alone else beside)[token.start[0]] = token.string[2:].strip()
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    options, found = rule.options(), {}
    for node in definition.body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id in options
        ):
            start = node.lineno
            while start - 1 in above:
                start -= 1
            parts = [above[line] for line in range(start, node.lineno)]
            found[node.target.id] = " ".join([*parts, beside.get(node.end_lineno or start, "")]).strip()
    return found


def _facts(rule: type[Rule]) -> str:
    """Severity, what has to be measured, and what explains a finding."""
    facts = [f"Severity: {rule.severity}."]
    if rule.needs:
        facts.append(f"Needs: {', '.join(need for need in NEEDS if need in rule.needs)}.")
    if rule.level is not None:
        facts.append(f"Level: {rule.level}.")
    if rule.explained_by:
        facts.append(f"Also shown under: {', '.join(sorted(rule.explained_by))}.")
    return " ".join(facts)


def _options(rule: type[Rule]) -> list[str]:
    options, why = rule.options(), reasons(rule)
    if not options:
        return []
    lines = [
        f"- `{key} = {_toml(default)}`" + (f": {why[key]}" if why[key] else "")
        for key, default in options.items()
    ]
    return [f"In `[tool.initlint.rules.{rule.name}]`:", "", *lines]


def _example(example: Example) -> list[str]:
    """The source of the model, the subjects in which something is found, and the options it takes."""
    subjects = ", ".join(f"`{name}`" if name else "the whole model" for name in example.finds)
    options = ", ".join(f"`{key} = {_toml(value)}`" for key, value in example.options.items())
    caption = [f"In {subjects}" if subjects else "", f"with {options}" if options else ""]
    text = " ".join(filter(None, caption))
    source = textwrap.dedent(inspect.getsource(example.build)).rstrip()
    return [*([f"{text[0].upper()}{text[1:]}:", ""] if text else []), "```python", source, "```", ""]


def _toml(value: Figure) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _entries(references: str) -> list[str]:
    """References, each ending with a full stop at the end of a line."""
    entries = [""]
    for line in references.split("\n"):
        entries[-1] = f"{entries[-1]} {line.strip()}".strip()
        if entries[-1].endswith("."):
            entries.append("")
    return [entry for entry in entries if entry]


def write(folder: Path, pages: Mapping[str, str]) -> None:
    """Write the pages into a folder."""
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


def with_table(text: str, rules: Iterable[type[Rule]]) -> str:
    """A README whose table between the marks `<!-- rules -->` and `<!-- /rules -->` lists the rules."""
    before, opening, rest = text.partition("<!-- rules -->\n")
    _, closing, after = rest.partition("<!-- /rules -->")
    return f"{before}{opening}{rule_table(rules)}{closing}{after}" if closing else text


if __name__ == "__main__":
    from initlint import registry

    known = registry.load().rules
    write(Path(sys.argv[1]), files(known))
    for readme in map(Path, sys.argv[2:]):
        readme.write_text(with_table(readme.read_text(encoding="utf-8"), known), encoding="utf-8")
