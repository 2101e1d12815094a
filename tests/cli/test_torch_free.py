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
loaded = [name for name in ("torch", "numpy", "scipy", "tabulate", "jinja2") if name in sys.modules]
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


@pytest.mark.parametrize(
    "used",
    [
        "import initlint\nassert [getattr(initlint, name) for name in initlint.__all__]",
        "from initlint import registry\nassert registry.load().rules",
    ],
    ids=["the package and its exports", "rules"],
)
def test_no_torch_in_python(used: str, tmp_path: Path) -> None:
    code = f"{used}\nimport sys\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
