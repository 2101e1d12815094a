"""The configuration: [tool.initlint] of a TOML file, read strictly into frozen records."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from initlint.errors import ConfigError
from initlint.finding import SEVERITIES, Figure, Severity
from initlint.registry import Selection

DTYPES = ("float32", "float64", "bfloat16", "float16")
FAIL_ON = (*reversed(SEVERITIES), "never")


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """[tool.initlint.rules.NAME]: a severity, and the rule's own options."""

    severity: Severity | None = None
    options: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """[tool.initlint.targets.NAME]; None where the command line or the general settings decide."""

    model: str
    inputs: str | None = None
    input_shape: str | None = None
    loss: str | None = None
    device: str | None = None
    dtype: str | None = None
    seed: int | None = None
    probe: bool = True
    timeout: float | None = None
    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Configuration:
    """[tool.initlint]; `file` None when there is none.

    `folder` is where its targets are imported from and its relative paths start: the folder of a file that
    was found, the working directory for one that was named.
    """

    file: Path | None = None
    folder: Path = field(default_factory=Path.cwd)
    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: str | None = None
    format: str | None = None
    output: tuple[str, ...] = ()
    device: str | None = None
    dtype: str | None = None
    seed: int | None = None
    jobs: int | None = None
    timeout: float | None = None
    targets: Mapping[str, TargetSettings] = field(default_factory=dict)
    rules: Mapping[str, RuleSettings] = field(default_factory=dict)

    def origin(self, *keys: str) -> str:
        """How an error names a place in the file: "pyproject.toml: tool.initlint.rules.x"."""
        return f"{self.file.name if self.file else ''}: {_dotted('tool', 'initlint', *keys)}"

    def selections(self, target: str | None = None) -> list[Selection]:
        """What the general settings, and then the target's own table, select and ignore."""
        places = [Selection(f"{self.origin()}.", self.select, self.extend_select, self.ignore)]
        own = self.targets.get(target) if target is not None else None
        if own is not None:
            origin = self.origin("targets", str(target))
            places.append(Selection(f"{origin}.", own.select, own.extend_select, own.ignore))
        return places


def find(start: Path) -> Configuration:
    """The nearest pyproject.toml with a [tool.initlint] table, from `start` upwards; raises ConfigError."""
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file() and "initlint" in _tool(file):
            return replace(read(file), folder=folder)
    return Configuration()


def read(file: Path) -> Configuration:
    """Read [tool.initlint] of a TOML file; raises ConfigError naming file and key."""
    tool = _tool(file)
    if "initlint" not in tool:
        raise ConfigError(f"{file.name}: has no [tool.initlint] table")
    at = _At(file.name, ("tool", "initlint"))
    return Configuration(file=file.resolve(), **_settings(_table(tool["initlint"], at), _GENERAL, at))


def _tool(file: Path) -> dict[str, Any]:
    """The table [tool] of a file; raises ConfigError."""
    import tomllib  # what needs no configuration starts without it

    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: is not valid TOML: {error}") from error
    tool = document.get("tool", {})
    return tool if isinstance(tool, dict) else {}


# ---------------------------------------------------------------- keys and their types


@dataclass(frozen=True, slots=True)
class _At:
    """A place in the file, for errors."""

    file: str
    keys: tuple[str, ...]

    def __truediv__(self, key: str) -> _At:
        return _At(self.file, (*self.keys, key))

    def error(self, what: str) -> ConfigError:
        return ConfigError(f"{self.file}: {_dotted(*self.keys)}: {what}")


def _dotted(*keys: str) -> str:
    return ".".join(key if key.replace("-", "").replace("_", "").isalnum() else f'"{key}"' for key in keys)


_Reader = Callable[[Any, _At], Any]


def _settings(table: Mapping[str, Any], readers: Mapping[str, _Reader], at: _At) -> dict[str, Any]:
    """Values by attribute name; an unknown key is an error with a suggestion."""
    settings = {}
    for key, value in table.items():
        if key not in readers:
            close = difflib.get_close_matches(key, readers, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known keys are {', '.join(readers)}"
            raise (at / key).error(f"unknown key; {hint}")
        settings[key.replace("-", "_")] = readers[key](value, at / key)
    return settings


def _must_be(what: str, fits: Callable[[Any], bool], kept: Callable[[Any], Any] = lambda v: v) -> _Reader:
    """Reader of a value that fits, as `kept` makes it; of another it raises ConfigError."""

    def read(value: Any, at: _At) -> Any:
        if not fits(value):
            raise at.error(f"must be {what}, not {value!r}")
        return kept(value)

    return read


def _one_of(*choices: str) -> _Reader:
    return _must_be(f"one of {', '.join(choices)}", choices.__contains__)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


_text = _must_be("a string", _is_text)
_texts = _must_be("a list of strings", lambda v: isinstance(v, list) and all(map(_is_text, v)), tuple)
_flag = _must_be("true or false", lambda v: isinstance(v, bool))
_table = _must_be("a table", lambda v: isinstance(v, dict))
_option = _must_be("a number, a string, true or false", lambda v: isinstance(v, (bool, int, float, str)))
# type(), because a bool is an int
_seed = _must_be("a whole number from 0 to 2**32 - 1", lambda v: type(v) is int and 0 <= v < 2**32)
_jobs = _must_be("a whole number of at least 1", lambda v: type(v) is int and v >= 1)
_seconds = _must_be(
    "a number of seconds (0: no limit)", lambda v: type(v) in (int, float) and 0 <= v < math.inf, float
)


def _target_tables(value: Any, at: _At) -> dict[str, TargetSettings]:
    targets = {}
    for name, table in _table(value, at).items():
        settings = _settings(_table(table, at / name), _TARGET, at / name)
        if "model" not in settings:
            raise (at / name).error('has no model; write model = "module:attr"')
        if "inputs" in settings and "input_shape" in settings:
            raise (at / name).error("has both inputs and input-shape; one of them is enough")
        targets[name] = TargetSettings(**settings)
    return targets


def _rule_tables(value: Any, at: _At) -> dict[str, RuleSettings]:
    rules = {}
    for name, table in _table(value, at).items():
        options = {key: _option(value, at / name / key) for key, value in _table(table, at / name).items()}
        severity = options.pop("severity", None)
        if severity is not None:
            severity = _one_of(*SEVERITIES)(severity, at / name / "severity")
        rules[name] = RuleSettings(severity, options)
    return rules


_SHARED: dict[str, _Reader] = {
    "device": _text,
    "dtype": _one_of(*DTYPES),
    "seed": _seed,
    "timeout": _seconds,
    "select": _texts,
    "extend-select": _texts,
    "ignore": _texts,
}
_TARGET: dict[str, _Reader] = {
    "model": _text,
    "inputs": _text,
    "input-shape": _text,
    "loss": _text,
    "probe": _flag,
    **_SHARED,
}
_GENERAL: dict[str, _Reader] = {
    **_SHARED,
    "fail-on": _one_of(*FAIL_ON),
    "format": _text,
    "output": _texts,
    "jobs": _jobs,
    "targets": _target_tables,
    "rules": _rule_tables,
}
