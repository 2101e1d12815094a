"""Proves remedies: with the suggested code run on the model, does the rule still find what it found?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from initlint.finding import Finding
from initlint.rule import subjects
from initlint.runtime import preserved

EFFECT = "with this code run on the model, a second look no longer finds it"


def proven(
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
        left = {(finding.rule, name) for finding in _all(look()) for name in subjects(finding)}
    return tuple(
        replace(finding, suggestion=replace(finding.suggestion, verified=True, effect=EFFECT))
        if finding.suggestion is not None
        and finding.suggestion.code in ran
        and not any((finding.rule, name) in left for name in subjects(finding))
        else finding
        for finding in findings
    )


@contextmanager
def _applied(findings: Iterable[Finding], model: nn.Module, seed: int) -> Iterator[set[str]]:
    """The codes that ran; what they changed is undone at the end."""
    ran = set()
    with preserved(model):
        torch.manual_seed(seed)
        for finding in findings:
            code = finding.suggestion.code if finding.suggestion else ""
            try:
                with torch.no_grad():
                    exec(compile(code, "<suggestion>", "exec"), {"model": model, "nn": nn, "torch": torch})
            except Exception:  # the model's own indexing or attributes may refuse: then nothing is proven
                continue
            ran.add(code)
        yield ran


def _all(findings: Iterable[Finding]) -> Iterator[Finding]:
    for finding in findings:
        yield finding
        yield from _all(finding.consequences)
