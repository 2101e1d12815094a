"""The tasks of the workers: the command line over a target's table over the general settings."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from initlint import registry
from initlint.cli import config
from initlint.cli.config import Configuration, TargetSettings
from initlint.errors import ConfigError
from initlint.registry import Catalogue, Selection

if TYPE_CHECKING:
    from initlint.rule import Rule
    from initlint.target import Target
    from initlint.workers import Task


Value = TypeVar("Value")

TIMEOUT = 600.0  #: seconds; longer than any model that a gate can wait for

USAGE = """\
nothing to lint: name a target, or configure some.

    initlint mymodel:build            # a function, class or nn.Module in mymodel.py
    initlint path/to/file.py:Net      # the same in a file

    [tool.initlint.targets.mymodel]   # in pyproject.toml
    model = "mymodel:build"
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; None and () where it says nothing."""

    targets: tuple[str, ...] = ()
    inputs: str | None = None
    input_shape: str | None = None
    loss: str | None = None
    device: str | None = None
    dtype: str | None = None
    seed: int | None = None
    no_probe: bool = False
    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: str | None = None
    format: str | None = None
    output: tuple[str, ...] = ()
    config_file: Path | None = None
    jobs: int | None = None
    timeout: float | None = None
    explain: str | None = None
    list_rules: bool = False
    quiet: bool = False
    verbose: bool = False
    color: str = "auto"


# ---------------------------------------------------------------- what is to be linted
def configuration_for(options: Options) -> Configuration:
    """The file that was named, else the one found from the working directory upwards; raises ConfigError."""
    if options.inputs and options.input_shape:
        raise ConfigError("--inputs and --input-shape exclude each other")
    if options.config_file is not None:
        return config.read(options.config_file)
    return config.find(Path.cwd())


def tasks(options: Options, configuration: Configuration) -> list[Task]:
    """One task a target, with the rules that are selected for it; raises ConfigError and PackError.

    What the command line says counts first, then the target's own table, then the general settings.
    """
    from initlint.workers import Task

    targets = _targets(options, configuration)
    catalogue = registry.load()
    rules = _rules(configuration, catalogue)
    command_line = Selection("--", options.select, options.extend_select, options.ignore)
    return [
        Task(
            _target(name, own, options, configuration),
            tuple(
                rules[rule.code] for rule in catalogue.select([*configuration.selections(name), command_line])
            ),
            first(options.timeout, own.timeout, configuration.timeout, default=TIMEOUT),
        )
        for name, own in targets.items()
    ]


def first(*values: Value | None, default: Value) -> Value:
    """The first value that is set, be it 0."""
    return next((value for value in values if value is not None), default)


def _targets(options: Options, configuration: Configuration) -> Mapping[str, TargetSettings]:
    """What was asked for, by name: the configured table, or one that holds the name as its model."""
    known = configuration.targets
    if not options.targets:
        if not known:
            raise ConfigError(USAGE.rstrip())
        return known
    for name in options.targets:
        if known and name not in known and ":" not in name and not os.path.exists(name):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"configured are {', '.join(known)}"
            raise ConfigError(f"{name!r} is neither module:attr nor a configured target; {hint}")
    return {name: known.get(name) or TargetSettings(model=name) for name in options.targets}


def _target(name: str, own: TargetSettings, options: Options, configuration: Configuration) -> Target:
    from initlint.target import Target

    # Inputs given on the command line are relative to the working directory, as is a target given there.
    folder = configuration.folder if name in configuration.targets else Path.cwd()
    replaced = options.inputs or options.input_shape
    return Target(
        name=name,
        model=own.model,
        folder=str(folder),
        inputs=options.inputs if replaced else own.inputs,
        input_shape=options.input_shape if replaced else own.input_shape,
        loss=options.loss or own.loss,
        device=options.device or own.device or configuration.device or "cpu",
        dtype=options.dtype or own.dtype or configuration.dtype,
        seed=first(options.seed, own.seed, configuration.seed, default=0),
        probe=own.probe and not options.no_probe,
    )


def _rules(configuration: Configuration, catalogue: Catalogue) -> Mapping[str, Rule]:
    """Every rule with its configured options, by code."""
    tables = {}
    for key, table in configuration.rules.items():
        rule = catalogue.find(key, configuration.origin("rules"))
        if rule.code in tables:
            raise ConfigError(f"{configuration.origin('rules', key)}: {rule.code} {rule.name} has two tables")
        tables[rule.code] = (table, configuration.origin("rules", key))
    rules = {}
    for rule in catalogue.rules:
        table, origin = tables.get(rule.code, (config.RuleSettings(), ""))
        rules[rule.code] = registry.configured(rule, table.options, table.severity, origin)
    return rules
