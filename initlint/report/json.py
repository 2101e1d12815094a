"""The report as data: schema 1, described by schema.json beside this file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from initlint.finding import Figure, Finding
from initlint.report.records import STAGES, Failure, Report, TargetReport
from initlint.report.text import relative


def render(
    report: Report, *, width: int | None, color: bool, verbose: bool = False, quiet: bool = False
) -> str:
    """The document as ASCII; width, colour and verbosity change nothing."""
    return json.dumps(document(report), indent=1, allow_nan=False) + "\n"


def document(report: Report) -> dict[str, Any]:
    """The report as JSON values; a figure that is no finite number becomes "NaN" or "Infinity"."""
    tool = report.tool
    return {
        "schema": 1,
        "tool": {
            "name": "initlint",
            "version": tool.version,
            "torch": tool.torch,
            "python": tool.python,
            "seed": tool.seed,
            "device": tool.device,
        },
        "targets": [_target(target) for target in report.targets],
        "summary": {
            "targets": len(report.targets),
            "failed": sum(t.status == "error" for t in report.targets),
            "errors": report.count("error"),
            "warnings": report.count("warning"),
            "notes": report.count("note"),
            "suppressed": sum(f.suppressed is not None for t in report.targets for f in t.findings),
        },
    }


def _target(target: TargetReport) -> dict[str, Any]:
    model = target.model
    return {
        "target": target.target,
        "status": target.status,
        "error": None if target.error is None else _error(target.error),
        "model": None if model is None else {
            "class": model.class_name,
            "parameters": model.parameters,
            "elements": model.elements,
            "bytes": model.bytes,
        },
        "trace": target.trace,
        "inputs": target.inputs,
        "inputs_text": target.inputs_text,
        "seconds": dict.fromkeys(STAGES, 0.0) | {k: round(v, 6) for k, v in target.seconds.items()},
        "rules_run": target.rules_run,
        "not_run": [{"rule": skipped.rule, "reason": skipped.reason} for skipped in target.not_run],
        "findings": [_finding(finding, target.target) for finding in target.findings],
    }  # fmt: skip


def _error(error: Failure) -> dict[str, Any]:
    return {
        "stage": error.stage,
        "type": error.type,
        "message": error.message,
        "file": None if error.file is None else relative(error.file),
        "line": error.line,
    }


def _finding(finding: Finding, target: str) -> dict[str, Any]:
    site, suggestion = finding.site, finding.suggestion
    return {
        "code": finding.code,
        "rule": finding.rule,
        "severity": finding.severity,
        "subject": finding.subject,
        "related": list(finding.related),
        "message": finding.message,
        "help": finding.help,
        "measured": _figures(finding.measured),
        "expected": _figures(finding.expected),
        "file": None if site is None else relative(site.file),
        "line": None if site is None else site.line,
        "locations": [
            {"file": relative(place.site.file), "line": place.site.line, "what": place.what}
            for place in finding.locations
        ],
        "suggestion": None if suggestion is None else {
            "code": suggestion.code,
            "verified": suggestion.verified,
            "effect": suggestion.effect,
        },
        "suppressed": finding.suppressed,
        "fingerprint": finding.fingerprint(target),
        "consequences": [_finding(consequence, target) for consequence in finding.consequences],
    }  # fmt: skip


def _figures(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    return {name: _json_value(value) for name, value in figures.items()}


def _json_value(value: Figure) -> Figure:
    """The value, or the name of a float that JSON has no number for."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
