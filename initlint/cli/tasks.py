"""From options and configuration to the tasks of the workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from initlint import registry
from initlint.cli import config
from initlint.cli.config import Configuration, TargetSettings
from initlint.errors import ConfigError
from initlint.registry import Catalogue, Selection

if TYPE_CHECKING:
    from initlint.rule import Rule
    from initlint.target import Target
    from initlint.workers import Task


TIMEOUT = 600.0  #: seconds; longer than any model that a gate can wait for


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
def configuration(options: Options) -> Configuration:
    """The file that was named, else the one found from the working directory upwards; raises ConfigError."""
    if options.inputs and options.input_shape:
        raise ConfigError("--inputs and --input-shape exclude each other")
    if options.config_file is not None:
        return config.read(options.config_file)
    return config.find(Path.cwd())


def tasks(
    chosen: Sequence[tuple[str, TargetSettings | None]],
    options: Options,
    settings: Configuration,
    catalogue: Catalogue,
) -> list[Task]:
    """One task a target, with the rules that are selected for it."""
    from initlint.workers import Task

    rules = _rules(settings, catalogue)
    asked = Selection("--", options.select, options.extend_select, options.ignore)
    made = []
    for name, own in chosen:
        selected = catalogue.select([*settings.selections(name if own else None), asked])
        limits = (options.timeout, own.timeout if own else None, settings.timeout)
        timeout = next((limit for limit in limits if limit is not None), TIMEOUT)
        target = _target(name, own, options, settings)
        made.append(Task(target, tuple(rules[rule.code] for rule in selected), timeout))
    return made


def _target(name: str, own: TargetSettings | None, options: Options, settings: Configuration) -> Target:
    from initlint.target import Target

    configured = own or TargetSettings(model=name)
    # Inputs given on the command line are relative to the working directory, as is a target given there.
    folder = str(settings.folder) if own else str(Path.cwd())
    given = options.inputs or options.input_shape
    return Target(
        name=name,
        model=configured.model,
        folder=folder,
        inputs=options.inputs if given else configured.inputs,
        input_shape=options.input_shape if given else configured.input_shape,
        loss=options.loss or configured.loss,
        device=options.device or configured.device or settings.device or "cpu",
        dtype=options.dtype or configured.dtype or settings.dtype,
        seed=seed_of(options, settings, own),
        probe=configured.probe and not options.no_probe,
    )


def seed_of(options: Options, settings: Configuration, own: TargetSettings | None) -> int:
    """The first seed that is set: on the command line, for the target, for all; else 0."""
    seeds = (options.seed, own.seed if own else None, settings.seed)
    return next((seed for seed in seeds if seed is not None), 0)


def _rules(settings: Configuration, catalogue: Catalogue) -> Mapping[str, Rule]:
    """Every rule with its configured options, by code."""
    tables = {}
    for key, table in settings.rules.items():
        rule = catalogue.find(key, settings.origin("rules"))
        if rule.code in tables:
            raise ConfigError(f"{settings.origin('rules', key)}: {rule.code} {rule.name} has two tables")
        tables[rule.code] = (table, settings.origin("rules", key))
    rules = {}
    for rule in catalogue.rules:
        table, origin = tables.get(rule.code, (config.RuleSettings(), ""))
        rules[rule.code] = registry.configured(rule, table.options, table.severity, origin)
    return rules
