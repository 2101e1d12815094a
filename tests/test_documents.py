"""The pages for contributors say what is so, and every command that they name exists."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import get_args

import handbook
import pytest

import initlint
from initlint import evidence, registry
from initlint.analysis import recipes
from initlint.evidence import SignalKind

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "README.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
GROUPS = {registry.GROUP, recipes.GROUP}  # of entry points
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------- generated tables


@cache
def tables() -> dict[str, str]:
    return handbook.tables(ROOT / "pyproject.toml")


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/evidence.md"])
def test_tables_are_what_the_code_says(page: str) -> None:
    assert text(page) == handbook.filled(text(page), tables()), "run 'make pages' and commit docs"


def test_every_table_has_a_place() -> None:
    placed = [name for page in (ROOT / "docs").glob("*.md") for name in marks(page.read_text("utf-8"))]
    assert sorted(placed) == sorted(tables())


def marks(page: str) -> list[str]:
    return re.findall(r"^<!-- (\w+) -->$", page, re.MULTILINE)


def test_a_stale_table_is_written_anew() -> None:
    assert handbook.filled("a\n<!-- x -->\nold\n<!-- /x -->\nb\n", {"x": "new\n"}) == (
        "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n"
    )


def test_page_of_imports_shows_the_layers_of_the_contract() -> None:
    linter = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]
    (layers,) = (c["layers"] for c in linter["contracts"] if c["type"] == "layers")
    shown = re.search(r"<!-- layers -->\n```text\n(.*?)```", text("docs/architecture.md"), re.DOTALL)
    assert shown is not None
    assert shown[1].splitlines() == layers
    listed = {name for layer in layers for name in re.split(r" [|:] ", layer)}
    rooms = set(re.findall(r"^### (\w+)$", text("docs/architecture.md"), re.MULTILINE))
    assert rooms == {path.parent.name for path in (ROOT / "initlint").glob("*/__init__.py")}
    assert rooms <= listed


# ---------------------------------------------------------------- evidence

FIELDS = [
    pytest.param(record, *field, id=f"{record.__name__}.{field[0]}")
    for record in handbook.records()
    for field in handbook.fields(record)
]


def test_fields_are_those_of_the_records() -> None:
    for record in handbook.records():
        declared = list(inspect.get_annotations(record))
        assert [name for name, _, _ in handbook.fields(record)] == declared, record


@pytest.mark.parametrize(("record", "name", "kind", "comment"), FIELDS)
def test_a_field_that_may_be_none_says_when(record: type, name: str, kind: str, comment: str) -> None:
    """What holds for every site is said once, on the page."""
    if kind.endswith("| None") and kind != "Site | None":
        assert "None" in comment


def test_comments_beside_and_above_a_field_are_read() -> None:
    said = {name: comment for name, _, comment in handbook.fields(evidence.Signal)}
    assert said["module"] == "innermost module path"
    assert said["across_inputs"].startswith("std over the batch / rms")
    assert said["node"] == ""


def test_stages_are_given_for_fields_that_exist() -> None:
    known = {r.__name__ for r in handbook.records()}
    known |= {f"{r.__name__}.{name}" for r in handbook.records() for name, _, _ in handbook.fields(r)}
    assert set(handbook.STAGES) <= known


def test_signals_are_the_operators_that_the_meter_reads() -> None:
    found = handbook.operators()
    assert "`relu`" in found["activation"]
    assert "`addmm`" in found["weight"]
    assert not {"`view`", "`mul`", "`dropout`"} & {name for names in found.values() for name in names}


# ---------------------------------------------------------------- glossary


def terms() -> set[str]:
    """The terms that the glossary explains, in lower case."""
    return {
        term.strip(" `").lower()
        for line in re.findall(r"^\*\*(.+?)\*\*:", text("docs/glossary.md"), re.MULTILINE)
        for term in line.split(",")
    }


def test_glossary_explains_what_records_and_messages_say() -> None:
    roles = re.search(r"role: Literal\[(.*?)\]", inspect.getsource(evidence.Use), re.DOTALL)
    assert roles is not None
    for word in (*get_args(SignalKind), *re.findall(r'"(\w+)"', roles[1])):
        assert re.search(rf"`{word}`", text("docs/glossary.md")), word


def test_glossary_explains_every_room_and_record() -> None:
    rooms = {path.parent.name for path in (ROOT / "initlint").glob("*/__init__.py")}
    words = {re.sub(r"(?<=[a-z])(?=[A-Z])", " ", r.__name__).lower() for r in handbook.records()}
    assert sorted((rooms | words) - terms()) == []


def test_glossary_is_in_alphabetical_order() -> None:
    entries = [term.lower() for term in re.findall(r"^\*\*([^*,]+)", text("docs/glossary.md"), re.MULTILINE)]
    assert entries == sorted(entries)


# ---------------------------------------------------------------- commands


def targets() -> list[str]:
    return re.findall(r"^([a-z][a-z-]*):", text("Makefile"), re.MULTILINE)


def test_every_target_is_phony_and_described() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", text("Makefile"), re.MULTILINE)
    assert phony is not None
    assert phony[1].split() == targets()
    assert re.findall(r"^([a-z-]+):.*## \w", text("Makefile"), re.MULTILINE) == targets()


@needs_make
@pytest.mark.parametrize("target", targets())
def test_target_can_be_made(target: str) -> None:
    done = subprocess.run(
        ["make", "-n", target, "CODE=IL999", "NAME=some-name"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    "name",
    [
        ".ci/run",
        ".pre-commit-config.yaml",
        ".github/pull_request_template.md",
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/evidence.md",
    ],
)
def test_commands_that_are_named_exist(name: str) -> None:
    """`make words` in code, up to the first that is no target's name."""
    named = re.findall(r"(?:^|[`\s])make((?: [A-Z]+=\S+)*(?: [a-z-]+)+)", code(name), re.MULTILINE)
    used = {word for command in named for word in command.split() if "=" not in word}
    assert used, name
    assert used <= set(targets())


def code(name: str) -> str:
    """What a page shows as code; all of a file that is no page."""
    if not name.endswith(".md"):
        return re.sub(r"^\s*#.*$", "", text(name), flags=re.MULTILINE)
    blocks = re.findall(r"^```sh\n(.*?)^```", text(name), re.MULTILINE | re.DOTALL)
    return "\n".join((*blocks, *re.findall(r"`(make [^`]*)`", text(name))))


def test_ci_does_what_the_makefile_says() -> None:
    """Locally `make all` makes what CI makes, but for the README's own commands."""
    (every,) = re.findall(r"^all: (.*?) +##", text("Makefile"), re.MULTILINE)
    in_ci = {
        word for line in re.findall(r"^make (.*)$", text(".ci/run"), re.MULTILINE) for word in line.split()
    }
    assert set(every.split()) - {"test"} <= in_ci
    assert ".ci/run" in text(".github/workflows/ci.yml")


def test_configuration_of_pre_commit_is_valid() -> None:
    pytest.importorskip("pre_commit")
    for check, name in (("config", ".pre-commit-config.yaml"), ("manifest", ".pre-commit-hooks.yaml")):
        command = [sys.executable, "-m", "pre_commit", f"validate-{check}", name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


# ---------------------------------------------------------------- templates


@pytest.mark.parametrize("name", ["false-alarm", "missed-defect", "crash"])
def test_form_of_an_issue(name: str) -> None:
    form = pytest.importorskip("yaml").safe_load(text(f".github/ISSUE_TEMPLATE/{name}.yml"))
    assert form["name"]
    assert form["description"]
    asked = {part["id"]: part for part in form["body"]}
    assert len(asked) == len(form["body"])
    assert all(part["attributes"]["label"] for part in asked.values())
    if name == "false-alarm":
        assert {"target", "expected", "json"} <= set(asked)
        assert all(part["validations"]["required"] for part in asked.values())
        assert "--format json -o report.json" in asked["json"]["attributes"]["description"]


# ---------------------------------------------------------------- links and paths


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_exist(page: Path) -> None:
    for path in re.findall(r"`((?:initlint|tests|benchmarks|docs|\.ci)/[\w./-]+)`", page.read_text("utf-8")):
        assert (ROOT / path).exists(), path


def test_modules_that_the_map_names_exist() -> None:
    """In a row of paths only the first has its folder."""
    found = set(re.findall(r"`(\w+\.py)`", text("docs/architecture.md")))
    assert found <= {path.name for path in (ROOT / "initlint").rglob("*.py")}


def test_names_that_packs_may_import_are_exported() -> None:
    (section,) = re.findall(
        r"^## What a rule pack may import\n(.*?)^## ", text("docs/architecture.md"), re.M | re.S
    )
    named = set(re.findall(r"`([A-Z]\w+)`", section))
    assert "Rule" in named
    assert named <= {*initlint.__all__, *recipes.__all__}
    for module in re.findall(r"`(initlint(?:\.\w+)+)`", section):
        assert module in GROUPS or import_module(module)
