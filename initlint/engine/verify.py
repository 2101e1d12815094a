"""Verifies remedies: with the suggested code run on the model, does the rule still find what it found?"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from initlint.engine.gather import gather
from initlint.engine.join import join
from initlint.engine.judge import judge
from initlint.engine.settings import Clock
from initlint.engine.stages import Call, Request, Stages
from initlint.finding import Finding
from initlint.rule import Need, Rule, subjects
from initlint.runtime import preserved

EFFECT = "with this code run on the model, a second look no longer finds it"


def verify(
    findings: tuple[Finding, ...], rules: Sequence[Rule], stages: Stages, request: Request
) -> tuple[Finding, ...]:
    """The findings, with the suggestions that a second look at the remedied model confirms."""
    offering = {finding.rule for finding in findings if finding.suggestion is not None}
    judges = [rule for rule in rules if rule.name in offering]
    settings, call = request.settings, stages.call
    again = replace(
        request,
        needs=frozenset[Need]().union(*(rule.needs for rule in judges)),
        inputs=(lambda: (call.inputs.args, call.inputs.kwargs)) if isinstance(call, Call) else None,
        module=lambda: None,
        settings=settings if isinstance(call, Call) else replace(settings, probe=False),
    )

    def look() -> tuple[Finding, ...]:
        second = gather(stages.construction, again, Clock())
        if second.error is not None:
            return findings
        return judge(judges, join(second, dtype=settings.dtype), second.missing).findings

    return mark_verified(findings, stages.construction.model, look, seed=settings.seed)


def mark_verified(
    findings: Sequence[Finding], model: nn.Module, look: Callable[[], Iterable[Finding]], *, seed: int
) -> tuple[Finding, ...]:
    """The findings, each suggestion marked that makes it go away.

    `look` lints the model once more, with all suggestions applied; afterwards the model is as it was.
    A suggestion that does not run, or is not enough, is kept and stays unverified.
    """
    offered = [finding for finding in findings if finding.suggestion is not None]
    if not offered:
        return tuple(findings)
    with _applied(offered, model, seed) as ran:
        left = {(finding.rule, name) for finding in _flat(look()) for name in subjects(finding)}
    return tuple(_marked(finding, ran, left) for finding in findings)


def _marked(finding: Finding, ran: Container[str], left: Container[tuple[str, str]]) -> Finding:
    """The finding, its suggestion verified if the code ran and none of its subjects is found any more."""
    suggestion = finding.suggestion
    if suggestion is None or suggestion.code not in ran:
        return finding
    if any((finding.rule, name) in left for name in subjects(finding)):
        return finding
    return replace(finding, suggestion=replace(suggestion, verified=True, effect=EFFECT))


@contextmanager
def _applied(findings: Iterable[Finding], model: nn.Module, seed: int) -> Iterator[set[str]]:
    """The codes that ran; what they changed is undone at the end."""
    codes = [finding.suggestion.code for finding in findings if finding.suggestion]
    with preserved(model):
        torch.manual_seed(seed)
        yield {code for code in codes if _runs(code, model)}


def _runs(code: str, model: nn.Module) -> bool:
    """Whether the code runs on the model, whose own indexing or attributes may refuse."""
    try:
        with torch.no_grad():
            exec(compile(code, "<suggestion>", "exec"), {"model": model, "nn": nn, "torch": torch})
    except Exception:
        return False
    return True


def _flat(findings: Iterable[Finding]) -> Iterator[Finding]:
    for finding in findings:
        yield finding
        yield from _flat(finding.consequences)
