"""Lets the rules judge the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from initlint.engine.causes import settle
from initlint.evidence import Evidence
from initlint.finding import Finding
from initlint.report import NotRun
from initlint.rule import NEEDS, Need, Rule


def judge(
    rules: Sequence[Rule], evidence: Evidence, missing: Mapping[Need, str]
) -> tuple[tuple[Finding, ...], tuple[NotRun, ...]]:
    """What the rules find, settled, and the rules whose evidence is missing."""
    findings: list[Finding] = []
    not_run: list[NotRun] = []
    for rule in rules:
        reason = next((missing[need] for need in NEEDS if need in rule.needs and need in missing), None)
        if reason is not None:
            not_run.append(NotRun(rule.name, reason))
            continue
        findings.extend(rule.check(evidence))
    return settle(findings, rules, evidence), tuple(not_run)
