"""Lets the rules judge the evidence, and proves what they suggest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.engine.causes import settle
from initlint.engine.gather import gather
from initlint.engine.join import Gathered, join
from initlint.engine.settings import Clock, Loss, Settings
from initlint.engine.verify import proven
from initlint.errors import TargetError
from initlint.evidence import Evidence
from initlint.finding import Finding
from initlint.report import Failure, ModelSummary, NotRun
from initlint.rule import NEEDS, Need, Rule


def proven_findings(
    findings: tuple[Finding, ...],
    rules: Sequence[Rule],
    gathered: Gathered,
    loss: Callable[[], Loss] | None,
    settings: Settings,
) -> tuple[Finding, ...]:
    """The findings, with the suggestions that a second look at the remedied model confirms."""
    offering = {finding.rule for finding in findings if finding.suggestion is not None}
    judges = [rule for rule in rules if rule.name in offering]
    fed = gathered.inputs

    def look() -> tuple[Finding, ...]:
        second = gather(
            gathered.construction,
            frozenset[Need]().union(*(rule.needs for rule in judges)),
            Clock(),
            (lambda: (fed.args, fed.kwargs)) if fed else None,
            loss,
            lambda: None,
            settings if fed else replace(settings, probe=False),
        )
        if second.error is not None:
            return findings
        return judge(judges, join(second, dtype=settings.dtype), second.missing)[0]

    return proven(findings, gathered.construction.model, look, seed=settings.seed)


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


def summary(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> ModelSummary:
    """Size of a model: its parameters, each object once."""
    parameters = [t for t in tensors.values() if isinstance(t, nn.Parameter) and not is_lazy(t)]
    return ModelSummary(
        class_name=type(model).__name__,
        parameters=len(parameters),
        elements=sum(p.numel() for p in parameters),
        bytes=sum(p.numel() * p.element_size() for p in parameters),
    )


def failure(error: TargetError) -> Failure:
    """The error as the report shows it."""
    return Failure(error.stage, error.kind, error.message, error.file, error.line)
