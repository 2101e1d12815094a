"""What needs no model does not import torch: it takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = """\
import sys
{before}
from initlint.cli import run

status = run({arguments!r})
assert status == {status}, status
loaded = [name for name in ("torch", "numpy", "tabulate", "jinja2") if name in sys.modules]
sys.exit(f"imported: {{loaded}}" if loaded else 0)
"""


def check(
    arguments: list[str], status: int, folder: Path, before: str = ""
) -> subprocess.CompletedProcess[str]:
    code = CHECK.format(arguments=arguments, status=status, before=before)
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["--list-rules"], 0),
        (["--explain", "IL301"], 0),
        (["--explain", "IL999"], 2),
        ([], 2),
        (["--select", "IL999", "mymodel:build"], 2),
        (["--format", "nothing"], 2),
        (["--config", "none.toml"], 2),
    ],
)
def test_no_torch(arguments: list[str], status: int, tmp_path: Path) -> None:
    done = check(arguments, status, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_test_can_fail(tmp_path: Path) -> None:
    done = check(["--version"], 0, tmp_path, before="import torch")
    assert done.returncode == 1
    assert "imported: ['torch'" in done.stderr


def test_the_package_and_its_exports_import_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, initlint\n"
        "assert [getattr(initlint, name) for name in initlint.__all__]\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_rule_modules_import_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom initlint import registry\n"
        "assert all(rule.examples for rule in registry.load().rules)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
