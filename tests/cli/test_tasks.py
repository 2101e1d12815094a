"""What counts where the command line, a target's table and the general settings say different things."""

from __future__ import annotations

from pathlib import Path

import pytest

from initlint.cli.config import Configuration, TargetSettings
from initlint.cli.tasks import TIMEOUT, Options, tasks
from initlint.errors import ConfigError
from initlint.workers import Task

CONFIGURATION = Configuration(
    folder=Path("/project"),
    device="meta",
    seed=3,
    timeout=30.0,
    ignore=("IL4",),
    targets={
        "tiny": TargetSettings("mymodel:build", seed=0, timeout=0.0, inputs="mymodel:batch", select=("IL1",)),
        "plain": TargetSettings("mymodel:plain"),
    },
)


def merged(*targets: str, **options: object) -> list[Task]:
    return tasks(Options(targets=targets, **options), CONFIGURATION)  # type: ignore[arg-type]


def test_a_table_counts_before_the_general_settings() -> None:
    tiny, plain = merged()
    assert (tiny.target.seed, tiny.timeout, tiny.target.device) == (0, 0.0, "meta")
    assert (plain.target.seed, plain.timeout, plain.target.device) == (3, 30.0, "meta")
    assert {rule.code[:3] for rule in tiny.rules} == {"IL1"}
    assert not [rule for rule in plain.rules if rule.code.startswith("IL4")]


def test_the_command_line_counts_before_both() -> None:
    (tiny,) = merged("tiny", seed=0, timeout=0.0, device="cpu", input_shape="2,3", select=("IL301",))
    assert (tiny.target.seed, tiny.timeout, tiny.target.device) == (0, 0.0, "cpu")
    assert (tiny.target.inputs, tiny.target.input_shape) == (None, "2,3")
    assert [rule.code for rule in tiny.rules] == ["IL301"]
    (plain,) = merged("plain", seed=0)
    assert plain.target.seed == 0


def test_a_target_without_a_table_lies_in_the_working_directory() -> None:
    tiny, other = merged("tiny", "other:build", "tiny")
    assert (tiny.target.model, tiny.target.folder) == ("mymodel:build", "/project")
    assert (other.target.model, other.target.folder) == ("other:build", str(Path.cwd()))
    assert (other.target.seed, other.timeout) == (3, 30.0)
    (alone,) = tasks(Options(targets=("other:build",)), Configuration())
    assert (alone.target.seed, alone.timeout, alone.target.device) == (0, TIMEOUT, "cpu")


def test_a_name_near_a_configured_one() -> None:
    with pytest.raises(ConfigError, match="did you mean tiny"):
        merged("tinny")
