"""The result of a run: what every reporter renders and the Python API returns."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from initlint.errors import InitlintError
from initlint.evidence import Tensor
from initlint.finding import SEVERITIES, Finding, Severity
from initlint.report.formats import FORMATS, NOTEBOOK

#: The stages of a run, in order, as `TargetReport.seconds` names them.
STAGES = ("import", "construct", "statistics", "trace", "probe", "rules")


def stage_in_errors(stage: str) -> str:
    """A stage's name in `Failure.stage` and in messages: people build a model, they construct none."""
    return "build" if stage == "construct" else stage


class FindingsError(InitlintError):
    """Raised by Report.raise_for_findings: the model has findings at or above the asked severity."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Tool:
    """Versions and settings that the figures depend on."""

    version: str
    torch: str
    python: str
    seed: int
    device: str

    @classmethod
    def here(cls, seed: int, device: str) -> Tool:
        """With the versions that are installed; does not import torch."""
        from importlib.metadata import version

        from initlint import __version__

        return cls(__version__, version("torch"), platform.python_version(), seed, device)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a target could not be linted to the end: stage, exception and the user's line."""

    stage: str
    type: str
    message: str
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """Size of the model; tied parameters count once."""

    class_name: str
    parameters: int
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True)
class NotRun:
    """A selected rule that could not run, and why."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class TargetReport:
    """Everything that was found out about one target."""

    target: str
    status: Literal["ok", "error"] = "ok"
    error: Failure | None = None
    model: ModelSummary | None = None
    trace: Literal["symbolic", "recorded", "none"] = "none"
    inputs: Literal["given", "hint", "inferred", "none"] = "none"
    inputs_text: str = ""  # "float32[2, 3, 224, 224], from default_cfg"
    seconds: Mapping[str, float] = field(default_factory=dict)
    not_run: tuple[NotRun, ...] = ()
    findings: tuple[Finding, ...] = ()
    tensors: tuple[Tensor, ...] = ()  # for the listing
    rules_run: int = 0

    def count(self, severity: Severity) -> int:
        """Number of findings of this severity that are not suppressed."""
        return sum(f.severity == severity and f.suppressed is None for f in self.findings)


@dataclass(frozen=True, slots=True)
class Report:
    """The targets in the order in which they were asked for."""

    tool: Tool
    targets: tuple[TargetReport, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of all targets, suppressed ones left out."""
        return tuple(f for t in self.targets for f in t.findings if f.suppressed is None)

    @property
    def failed(self) -> bool:
        """A target could not be linted."""
        return any(t.status == "error" for t in self.targets)

    @property
    def ok(self) -> bool:
        """Every target was linted and has no warning or error."""
        return not self.failed and not self.at_least("warning")

    def at_least(self, severity: Severity) -> tuple[Finding, ...]:
        """Findings of this severity or worse."""
        floor = SEVERITIES.index(severity)
        return tuple(f for f in self.findings if SEVERITIES.index(f.severity) >= floor)

    def count(self, severity: Severity) -> int:
        """Number of findings of this severity over all targets."""
        return sum(t.count(severity) for t in self.targets)

    def raise_for_findings(self, severity: Severity = "warning") -> None:
        """Raise FindingsError if a target failed or has a finding of at least `severity`."""
        lines = [f"{t.target}: {t.error.message}" for t in self.targets if t.error is not None]
        lines += [f"{f.code} {f.rule}: {f.subject}: {f.message}" for f in self.at_least(severity)]
        if lines:
            raise FindingsError("\n".join(lines))

    def to_json(self) -> str:
        """The report in the JSON format of `--format json`."""
        return FORMATS["json"](self, width=None, color=False).rstrip("\n")

    def _repr_html_(self) -> str:
        return NOTEBOOK(self, width=None, color=False)
