"""Lets the rules judge the evidence."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from initlint.engine.causes import settle
from initlint.errors import TargetError
from initlint.evidence import Evidence
from initlint.finding import Finding
from initlint.report import NotRun
from initlint.rule import NEEDS, Need, Rule
from initlint.source import blame


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules find, settled; the rules that did not run; and what the first of them raised, if any."""

    findings: tuple[Finding, ...]
    not_run: tuple[NotRun, ...]
    error: TargetError | None = None


def judge(rules: Sequence[Rule], evidence: Evidence, missing: Mapping[Need, str]) -> Verdict:
    """The verdict of rules on evidence; one that raises costs no other rule its findings."""
    findings: list[Finding] = []
    not_run: list[NotRun] = []
    errors: list[TargetError] = []
    for rule in rules:
        reason = next((missing[need] for need in NEEDS if need in rule.needs and need in missing), None)
        if reason is not None:
            not_run.append(NotRun(rule.name, reason))
            continue
        try:
            findings.extend(rule.check(evidence))
        except Exception as raised:
            error = blame("rules", raised)
            errors.append(error)
            where = f" at {os.path.basename(error.file)}:{error.line}" if error.file else ""
            not_run.append(NotRun(rule.name, f"{error.kind}{where}: {error.message}"))
    return Verdict(settle(findings, rules, evidence), tuple(not_run), next(iter(errors), None))
