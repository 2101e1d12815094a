"""The rooms of the house: who may import whom, how large a room is, and what it shows to others."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGINE, RULES = ROOT / "initlint", ROOT / "rules"
ROOMS = sorted(path.parent for path in ENGINE.glob("*/__init__.py"))
MOST_MODULES = 16
MOST_LINES = 100
#: Rules that need more lines, at most 130, and why.
LONG_RULES = {
    "il103_dead_zero_init": "a zero factor, a starved one and the odd one of a family are one fault",
    "il304_partial_init": "each way to miss a member has a sentence of its own",
    "il407_initial_loss": "logits and dense maps start with a loss for the same reason",
}
#: Rooms whose modules are each a subject of their own: they are imported by module.
OPEN = {"analysis"}


def contracts(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's verdict on a copy of the house."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages under their import names, and the contracts."""
    for source, name in ((ENGINE, "initlint"), (RULES, "initlint_rules")):
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold(copy: Path) -> None:
    done = contracts(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("initlint/theory/sampling.py", "from initlint.engine import examine", "Rooms import downwards"),
        ("initlint/analysis/fans.py", "from initlint.graph import aten", "Analysis reads evidence"),
        ("initlint/values/schemes.py", "from initlint.graph import aten", "Only the probe"),
        ("initlint/probe/meter.py", "from initlint.rule import Rule", "No stage knows a rule"),
        ("initlint/source/frames.py", "import torch", "What needs no model"),
        ("initlint_rules/il101_constant_weight.py", "from initlint.source import syntax", "Rules import"),
        ("initlint_rules/il101_constant_weight.py", "import torch", "What needs no model"),
        ("initlint/theory/sampling.py", "from initlint.theory import distributions", "no circle"),
        ("initlint/analysis/fans.py", "import linecache", "no file"),
        ("initlint_rules/il101_constant_weight.py", "from pathlib import Path", "no file"),
    ],
)
def test_planted_violation_fails(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    done = contracts(copy)
    assert done.returncode == 1
    broken = [text for text in done.stdout.splitlines() if "BROKEN" in text]
    assert any(contract in text for text in broken), done.stdout


def test_rules_and_analysis_open_no_file() -> None:
    paths = [*(ENGINE / "analysis").rglob("*.py"), *RULES.rglob("*.py")]
    calls = [
        node for path in paths for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    ]
    names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    assert "isinstance" in names
    assert names.isdisjoint({"open", "exec", "eval", "__import__"})


def test_rooms_are_small() -> None:
    folders = {path.parent for path in ENGINE.rglob("*.py")}
    sizes = {folder: sum(path.name != "__init__.py" for path in folder.glob("*.py")) for folder in folders}
    assert {folder: size for folder, size in sizes.items() if size > MOST_MODULES} == {}


def test_every_room_says_what_it_is_and_what_it_exports() -> None:
    for room in ROOMS:
        tree = ast.parse((room / "__init__.py").read_text())
        assert ast.get_docstring(tree), room
        names = {
            t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)
        }
        assert "__all__" in names or room.name in OPEN, room


def reaching_past(path: Path, room: str) -> Iterator[str]:
    """Imports of a module inside another room."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("initlint."):
            _, other, *inside = node.module.split(".")
            if inside and other not in {room, *OPEN}:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.module}"


def test_nothing_reaches_past_a_room() -> None:
    inner = [(path, path.relative_to(ENGINE).parts[0]) for path in ENGINE.rglob("*.py")]
    rules = [(path, "rules") for path in RULES.rglob("*.py")]
    assert [found for path, room in (*inner, *rules) for found in reaching_past(path, room)] == []


def test_rules_are_short() -> None:
    lines = {path.stem: len(path.read_text().splitlines()) for path in RULES.glob("il*.py")}
    assert len(lines) > 40
    assert len(LONG_RULES) <= 3
    assert {name for name, length in lines.items() if length > MOST_LINES} == set(LONG_RULES)
    assert all(lines[name] <= 130 for name in LONG_RULES)
