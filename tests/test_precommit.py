"""The hook of .pre-commit-hooks.yaml in a real repository: one commit passes, one is blocked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODEL = """\
import torch
from torch import nn

example_inputs = torch.ones(2, 4)


def build():
    return nn.Linear(4, 2)
"""
UNWRITTEN = (
    "    layer = nn.Linear(4, 2)\n    layer.weight = nn.Parameter(torch.empty(2, 4))\n    return layer\n"
)
CONFIGURATION = '[tool.initlint.targets.mine]\nmodel = "model:build"\n'

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None
    or shutil.which("pre-commit", path=str(Path(sys.executable).parent)) is None
    or not (ROOT / ".pre-commit-hooks.yaml").exists(),
    reason="needs git, pre-commit and the source tree",
)


class Repository:
    """A git repository with its own home, and the environment of this interpreter on the path."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("GIT_")
        } | {
            "HOME": str(home),
            "PRE_COMMIT_HOME": str(home / "pre-commit"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        folder.mkdir()
        self.run("git", "init", "--quiet")
        self.run("git", "config", "user.name", "Somebody")
        self.run("git", "config", "user.email", "somebody@example.org")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)

    def commit(self, **files: str) -> subprocess.CompletedProcess[str]:
        for name, text in files.items():
            (self.folder / name.replace("__", ".")).write_text(text)
        self.run("git", "add", "--all")
        return self.run("git", "commit", "--message", "change")

    def commits(self) -> int:
        return len(self.run("git", "log", "--format=%h").stdout.split())


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    """A user's repository whose hook comes from a repository that holds our manifest."""
    hook = Repository(tmp_path / "hook", tmp_path)
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", hook.folder)
    assert hook.commit().returncode == 0
    revision = hook.run("git", "rev-parse", "HEAD").stdout.strip()
    project = Repository(tmp_path / "project", tmp_path)
    (project.folder / ".pre-commit-config.yaml").write_text(
        f"repos:\n- repo: {hook.folder}\n  rev: {revision}\n  hooks:\n  - id: initlint\n"
    )
    installed = project.run("pre-commit", "install")
    assert installed.returncode == 0, installed.stdout
    return project


def test_one_commit_passes_and_one_is_blocked(project: Repository) -> None:
    passed = project.commit(model__py=MODEL, pyproject__toml=CONFIGURATION)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert project.commits() == 1
    blocked = project.commit(model__py=MODEL.replace("    return nn.Linear(4, 2)\n", UNWRITTEN))
    assert blocked.returncode == 1
    said = blocked.stdout + blocked.stderr
    assert "IL301" in said
    assert "model.py:9" in said
    assert "exit code: 1" in said
    assert project.commits() == 1


def test_without_targets_it_says_so(project: Repository) -> None:
    blocked = project.commit(model__py=MODEL)
    said = blocked.stdout + blocked.stderr
    assert blocked.returncode == 1
    assert "exit code: 2" in said
    assert "nothing to lint" in said
    assert "[tool.initlint.targets.mymodel]" in said
    assert project.commits() == 0
