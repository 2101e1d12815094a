"""The package: what a wheel holds, what the package exports, and that the README says what is so."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import initlint
from initlint import registry
from initlint.cli import config
from initlint.cli.command import run
from initlint.report.pages import rule_table

ROOT = Path(__file__).parent.parent
PACKAGES = {"initlint": "initlint", "rules": "initlint_rules"}  # folder: import name

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the source tree")


def sources() -> set[str]:
    """The files that a wheel must hold, by their names in it."""
    return {
        str(Path(name, file.relative_to(ROOT / folder)))
        for folder, name in PACKAGES.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


# ---------------------------------------------------------------- the distribution


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {str(Path(name).parent).replace(os.sep, ".") for name in sources() if name.endswith(".py")}
    assert set(listed) == folders


def test_a_wheel_holds_all_and_nothing_else(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for folder in PACKAGES:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(tree)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"initlint-{initlint.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        points = archive.read(f"initlint-{initlint.__version__}.dist-info/entry_points.txt").decode()
    assert {name for name in names if ".dist-info/" not in name} == sources()
    assert "initlint = initlint.cli:main" in points
    assert "[initlint.rules]\nbuiltin = initlint_rules" in points


def test_version() -> None:
    assert version("initlint") == initlint.__version__
    assert f"\n## {initlint.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_exports() -> None:
    assert len(set(initlint.__all__)) == len(initlint.__all__)
    assert dir(initlint) == sorted(initlint.__all__)
    for name in initlint.__all__:
        assert getattr(initlint, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'chek'"):
        initlint.chek  # noqa: B018


# ---------------------------------------------------------------- the README


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", readme(), re.MULTILINE | re.DOTALL)


def marked(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", readme(), re.DOTALL)
    assert found is not None
    return found[1]


def refresh(name: str, text: str) -> None:
    fresh = re.sub(
        rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m: m[1] + text + m[2], readme(), flags=re.DOTALL
    )
    (ROOT / "README.md").write_text(fresh, encoding="utf-8")


def test_table_of_rules(request: pytest.FixtureRequest) -> None:
    rules = [rule for rule in registry.load().rules if rule.__module__.startswith("initlint_rules.")]
    if request.config.getoption("--refresh-golden"):
        refresh("rules", rule_table(rules))
    assert marked("rules") == rule_table(rules)


def test_example(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first command finds what the README shows, of the parameters and at the lines that it shows."""
    monkeypatch.chdir(ROOT)
    assert run(["examples/broken.py:build", "--color", "never"]) == 1
    out = capsys.readouterr().out
    if request.config.getoption("--refresh-golden"):
        refresh("example", f"```text\n{out}```\n")
    told = re.compile(r"IL\d+|examples/broken\.py:\d+|\w+(?:\.\w+)*\.(?:weight|bias|scale)\b")
    assert len(told.findall(out)) >= 6
    assert told.findall(marked("example")) == told.findall(out)


def test_the_other_example_is_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    status = run(["examples/healthy.py:build", "--format", "json"])
    (target,) = json.loads(capsys.readouterr().out)["targets"]
    assert (status, target["findings"], target["not_run"]) == (0, [], [])


def test_two_commands_do_all_the_set_up() -> None:
    commands = [block for block in blocks("sh") if "pip install" in block]
    assert [command.count("\n") for command in commands] == [1, 1]
    assert commands[0].endswith("initlint examples/broken.py:build\n")
    assert commands[1].endswith("pytest\n")


def test_configuration_of_the_readme(tmp_path: Path) -> None:
    (text,) = (block for block in blocks("toml") if "[tool.initlint]" in block)
    (tmp_path / "pyproject.toml").write_text(text)
    settings = config.read(tmp_path / "pyproject.toml")
    assert set(settings.targets) == {"tiny", "vit"}
    catalogue = registry.load()
    for name in settings.targets:
        catalogue.select(settings.selections(name))
    for name, rule in settings.rules.items():
        registry.configured(catalogue.find(name), rule.options, rule.severity, "")


def test_python_of_the_readme() -> None:
    (code,) = (block for block in blocks("python") if "initlint.check" in block)
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    report = names["report"]
    assert isinstance(report, initlint.Report)
    assert [(target.status, target.inputs) for target in report.targets] == [("ok", "given")]


def test_rule_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (block for block in blocks("python") if "(Rule)" in block)
    (points,) = (block for block in blocks("toml") if "entry-points" in block)
    (group,) = tomllib.loads(points)["project"]["entry-points"].items()
    assert group == ("initlint.rules", {"mine": "my_rules"})
    (tmp_path / "my_rules.py").write_text(code)
    (tmp_path / "models.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Embedding(9, 4)\n"
    )
    metadata = tmp_path / "my_rules-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-rules\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group[0]}]\nmine = my_rules\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(["models:build", "--select", "MY101", "--format", "concise"]) == 1
    assert capsys.readouterr().out.startswith("models.py:4:")
    assert run(["--explain", "loud-embedding"]) == 0
    assert capsys.readouterr().out.startswith("# MY101 loud-embedding\n")
    del sys.modules["my_rules"]
