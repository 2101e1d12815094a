"""[tool.initlint]: what is read, and the file and key that every error names."""

from __future__ import annotations

from pathlib import Path

import pytest

from initlint.cli import config
from initlint.cli.config import Configuration, RuleSettings, TargetSettings
from initlint.errors import ConfigError

EVERYTHING = """\
[project]
name = "mine"

[tool.initlint]
select = ["IL1", "wrong-fan"]
extend-select = ["IL4"]
ignore = ["IL204"]
fail-on = "error"
format = "concise"
output = ["report.json", "full:report.txt"]
device = "cuda:1"
dtype = "bfloat16"
seed = 7
jobs = 2
timeout = 30

[tool.initlint.targets.tiny]
model = "mymodel:build"
inputs = "mymodel:batch"
loss = "mymodel:loss"
device = "cpu"
dtype = "float32"
seed = 1
probe = false
timeout = 2.5
select = ["ALL"]
extend-select = ["IL5"]
ignore = ["IL409"]

[tool.initlint.targets."vit b/16"]
model = 'timm:create_model("vit_base_patch16_224")'
input-shape = "2,3,224,224"

[tool.initlint.rules.wrong-fan]
severity = "note"
ratio = 3.5
bound = "uniform"
strict = true
"""


def write(folder: Path, text: str, name: str = "pyproject.toml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_everything(tmp_path: Path) -> None:
    file = write(tmp_path, EVERYTHING)
    assert config.read(file) == Configuration(
        file=file.resolve(),
        select=("IL1", "wrong-fan"),
        extend_select=("IL4",),
        ignore=("IL204",),
        fail_on="error",
        format="concise",
        output=("report.json", "full:report.txt"),
        device="cuda:1",
        dtype="bfloat16",
        seed=7,
        jobs=2,
        timeout=30.0,
        targets={
            "tiny": TargetSettings(
                model="mymodel:build",
                inputs="mymodel:batch",
                loss="mymodel:loss",
                device="cpu",
                dtype="float32",
                seed=1,
                probe=False,
                timeout=2.5,
                select=("ALL",),
                extend_select=("IL5",),
                ignore=("IL409",),
            ),
            "vit b/16": TargetSettings(
                model='timm:create_model("vit_base_patch16_224")', input_shape="2,3,224,224"
            ),
        },
        rules={"wrong-fan": RuleSettings("note", {"ratio": 3.5, "bound": "uniform", "strict": True})},
    )


def test_nearest_table_upwards(tmp_path: Path) -> None:
    outer = write(tmp_path, "[tool.initlint]\nseed = 1\n")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    write(inner.parent, "[project]\nname = 'no table of ours'\n")
    assert config.find(inner).file == outer.resolve()
    write(inner, "[tool.initlint]\nseed = 2\n")
    found = config.find(inner)
    assert found.seed == 2
    assert found.folder == inner
    assert config.read(inner / "pyproject.toml").folder == Path.cwd()


def test_no_table_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "[project]\nname = 'x'\n")
    assert config.find(tmp_path) == Configuration()
    assert config.find(tmp_path).folder == tmp_path


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("selct = ['IL1']", "tool.initlint.selct: unknown key; did you mean select?"),
        ("zzz = 1", "tool.initlint.zzz: unknown key; known keys are device"),
        ("baseline = 'x.json'", "tool.initlint.baseline: unknown key"),
        ("select = 'IL1'", "tool.initlint.select: must be a list of strings, not 'IL1'"),
        ("ignore = [1]", "tool.initlint.ignore: must be a list of strings"),
        ("fail-on = 'warn'", "tool.initlint.fail-on: must be one of error, warning, note, never, not 'warn'"),
        ("seed = true", "tool.initlint.seed: must be a whole number"),
        ("seed = -1", "tool.initlint.seed: must be a whole number"),
        ("jobs = 0", "tool.initlint.jobs: must be a whole number of at least 1"),
        ("timeout = 'long'", "tool.initlint.timeout: must be a number of seconds"),
        ("timeout = -1", "tool.initlint.timeout: must be a number of seconds"),
        ("timeout = inf", "tool.initlint.timeout: must be a number of seconds"),
        ("timeout = nan", "tool.initlint.timeout: must be a number of seconds"),
        ("dtype = 'int8'", "tool.initlint.dtype: must be one of float32"),
        ("device = 0", "tool.initlint.device: must be a string"),
        ("device = ''", "tool.initlint.device: must be a string"),
        ("targets = 'x'", "tool.initlint.targets: must be a table"),
        ("targets.tiny = 'm:b'", "tool.initlint.targets.tiny: must be a table"),
        ("targets.tiny = {}", 'tool.initlint.targets.tiny: has no model; write model = "module:attr"'),
        (
            "targets.tiny = {modle = 'm:b'}",
            "tool.initlint.targets.tiny.modle: unknown key; did you mean model?",
        ),
        ("targets.'a b' = {model = 1}", 'tool.initlint.targets."a b".model: must be a string'),
        ("targets.t = {model = 'm:b', probe = 1}", "tool.initlint.targets.t.probe: must be true or false"),
        (
            "targets.t = {model = 'm:b', inputs = 'm:i', input-shape = '2,3'}",
            "tool.initlint.targets.t: has both inputs and input-shape",
        ),
        (
            "rules.x = {severity = 'bad'}",
            "tool.initlint.rules.x.severity: must be one of note, warning, error",
        ),
        ("rules.x = {ratio = [1]}", "tool.initlint.rules.x.ratio: must be a number, a string, true or false"),
        ("rules.x = 1", "tool.initlint.rules.x: must be a table"),
    ],
)
def test_errors_name_file_and_key(line: str, says: str, tmp_path: Path) -> None:
    file = write(tmp_path, f"[tool.initlint]\n{line}\n", "settings.toml")
    with pytest.raises(ConfigError) as raised:
        config.read(file)
    assert str(raised.value).startswith(f"settings.toml: {says}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        config.read(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"is not valid TOML: .*line 1"):
        config.read(write(tmp_path, "[tool.initlint\n"))
    with pytest.raises(ConfigError, match="is not valid TOML"):
        config.find(tmp_path)
    with pytest.raises(ConfigError, match=r"has no \[tool.initlint\] table"):
        config.read(write(tmp_path, "[tool.other]\n"))
    (tmp_path / "latin.toml").write_bytes(b"[tool.initlint]\n# \xe9\n")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        config.read(tmp_path / "latin.toml")
