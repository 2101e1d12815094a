"""The tables of the pages for contributors: records and signals, rooms and modules, who may import whom.

`python docs/handbook.py docs` writes them anew, from the source and from the contracts in pyproject.toml.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import initlint
from initlint import evidence
from initlint.graph import aten, operator_kind

#: Modules of records in the order of the page, and the stage that fills most of their fields.
MODULES = {"model": "join", "build": "construct", "values": "values", "use": "graph", "signals": "probe"}
#: Records and fields that are filled by another stage than most in their module.
STAGES = {
    "Tensor": "construct",
    "Tensor.unread": "values",
    "Tensor.statistics": "values",
    "Tensor.padding": "values, graph",
    "Tensor.use": "graph",
    "Tensor.schemes": "values, graph",
    "Tensor.gradient": "probe",
    "Tensor.confirmation": "confirmation",
    "Tensor.updated": "probe",
    "Tensor.mention": "probe",
    "Evidence.rebuild": "rebuild",
    "ModuleRecord.calls": "probe",
    "Unregistered.reached": "probe",
    "Rebuild": "rebuild",
    "Statistics.parts": "values, graph",
    "Padding": "values, graph",
    "Scheme": "values, graph",
    "Signal.kind": "probe, graph",
    "Signal.depth": "graph",
    "Signal.weights": "probe, graph",
    "Signal.sources": "graph",
    "Signal.residual": "graph",
    "Signal.branch_ratio": "probe, graph",
    "Signal.leaves": "graph",
    "Signal.summands": "graph",
    "Confirmation": "confirmation",
    "Logits.weights": "graph",
}


def filled(page: str, tables: Mapping[str, str]) -> str:
    """The page with these tables between their marks, <!-- name --> and <!-- /name -->."""

    def fresh(found: re.Match[str]) -> str:
        return f"<!-- {found[1]} -->\n{tables[found[1]]}<!-- /{found[1]} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", fresh, page, flags=re.DOTALL)


def tables(project: Path) -> dict[str, str]:
    """All tables by name; the contracts are those of a pyproject.toml."""
    contracts = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    forbidden = [contract for contract in contracts if contract["type"] == "forbidden"]
    kinds = ((f"`{kind}`", ", ".join(names)) for kind, names in operators().items())
    return {
        "operators": _markdown(("kind", "operators"), kinds),
        "records": "\n".join(map(_record, records())),
        "layers": "```text\n" + "".join(f"{layer}\n" for layer in layers) + "```\n",
        "contracts": _markdown(
            ("contract", "these", "never import"),
            ((c["name"], *map(_short, (c["source_modules"], c["forbidden_modules"]))) for c in forbidden),
        ),
        "rooms": "\n".join(_rooms()),
    }


# ---------------------------------------------------------------- rooms


def _rooms() -> Iterator[str]:
    """Each room: what it is, what it exports, and its modules."""
    folder = Path(initlint.__file__).parent
    for room in sorted(path.parent for path in folder.glob("*/__init__.py")):
        package = import_module(f"initlint.{room.name}")
        exports = ", ".join(f"`{name}`" for name in vars(package).get("__all__", ())) or "its modules"
        yield f"### {room.name}\n\n{_first_line(room / '__init__.py')} Exports {exports}.\n"
        yield "".join(f"- `{path}`: {_first_line(folder / path)}\n" for path in _modules(folder, room))
    yield "### Beside the rooms\n"
    yield "".join(
        f"- `{m.name}.py`: {_first_line(folder / f'{m.name}.py')}\n"
        for m in iter_modules([folder])
        if not m.ispkg
    )


def _modules(folder: Path, room: Path) -> list[Path]:
    return [path.relative_to(folder) for path in sorted(room.rglob("*.py")) if path.name != "__init__.py"]


def _first_line(path: Path) -> str:
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return text if text.endswith(".") else f"{text.rstrip(':')} …"


def _short(modules: list[str]) -> str:
    return ", ".join(f"`{name.removeprefix('initlint.')}`" for name in modules)


# ---------------------------------------------------------------- evidence


def operators() -> dict[str, list[str]]:
    """The ATen operators whose outputs are read, without their namespace, by kind of signal."""
    tables = (table for table in vars(aten).values() if isinstance(table, (dict, frozenset)))
    found: dict[str, list[str]] = {}
    for name in sorted({name for table in tables for name in table if str(name).startswith("aten.")}):
        if (kind := operator_kind(name)) is not None:
            found.setdefault(kind, []).append(f"`{name.removeprefix('aten.')}`")
    return dict(sorted(found.items()))


def records() -> list[type]:
    """The records, in the order of the page."""
    known = (getattr(evidence, name) for name in evidence.__all__)
    return sorted(
        (record for record in known if inspect.isclass(record)),
        key=lambda record: ([*MODULES].index(_module(record)), inspect.getsourcelines(record)[1]),
    )


def fields(record: type) -> Iterator[tuple[str, str, str]]:
    """Name, type and comment of each field of a record, in order."""
    source = inspect.getsource(record)
    comments = {
        token.start[0]: token.string.lstrip("#: ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    alone = {n for n, line in enumerate(source.splitlines(), 1) if line.lstrip().startswith("#")}
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            start = node.lineno
            while start - 1 in alone:
                start -= 1
            lines = range(start, (node.end_lineno or node.lineno) + 1)
            comment = " ".join(comments[line] for line in lines if line in comments)
            yield node.target.id, ast.unparse(node.annotation), comment


def _record(record: type) -> str:
    """Heading, docstring, fields and derived values of one record."""
    name = record.__name__
    usual = STAGES.get(name, MODULES[_module(record)])
    rows = (
        (f"`{key}`", f"`{kind}`", comment, STAGES.get(f"{name}.{key}", usual))
        for key, kind, comment in fields(record)
    )
    table = _markdown(("field", "type", "what it is", "filled by"), rows)
    text = f"### {name}\n\n{inspect.getdoc(record)}\n\n{table}"
    derived = "".join(
        f"- `{key}`: {' '.join((inspect.getdoc(value) or '').split())}\n"
        for key, value in vars(record).items()
        if not key.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, (property, cached_property)))
    )
    return f"{text}\nDerived from these:\n\n{derived}" if derived else text


def _module(record: type) -> str:
    return record.__module__.rpartition(".")[2]


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    docs = Path(sys.argv[1])
    fresh = tables(docs.parent / "pyproject.toml")
    for path in docs.glob("*.md"):
        path.write_text(filled(path.read_text(encoding="utf-8"), fresh), encoding="utf-8")
