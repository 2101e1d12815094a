"""A rule that is started by command has two files, runs, and is proven by its examples at once."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from initlint.errors import ConfigError
from initlint.scaffold import start_rule
from initlint.testing import check_example, examples


def test_started_rule_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = tmp_path / "scaffolded_pack"
    pack.mkdir()
    (pack / "__init__.py").write_text("")
    rule_file, examples_file = start_rule("XY001", "large-values", pack)
    assert rule_file.name == examples_file.name == "xy001_large_values.py"
    assert len(rule_file.read_text().splitlines()) <= 100
    monkeypatch.syspath_prepend(str(tmp_path))
    cases = examples(importlib.import_module("scaffolded_pack"))
    assert [(rule.code, rule.name, example.name) for rule, example in cases] == [
        ("XY001", "large-values", "faulty"),
        ("XY001", "large-values", "near_miss"),
    ]
    for rule, example in cases:
        check_example(rule, example)


@pytest.mark.parametrize(
    ("code", "name", "says"),
    [
        ("IL101", "other", "IL101 is taken"),
        ("XY001", "constant-weight", "constant-weight is taken"),
        ("xy1", "other", "no code of the form IL101"),
        ("XY001", "Other Name", "no name of the form constant-weight"),
    ],
)
def test_refused(code: str, name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        start_rule(code, name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_command_says_what_it_wrote(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "initlint.scaffold", "XY002", "large-values", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(Path(line).exists() for line in done.stdout.split())
    missing = subprocess.run([*command[:-1], str(tmp_path / "none")], capture_output=True, text=True)
    assert missing.returncode == 1
    assert missing.stderr.startswith("initlint: there is no folder ")
