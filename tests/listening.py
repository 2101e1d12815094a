"""What the rules get to know of a model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from initlint import Evidence, Finding, Rule, engine


class Listener(Rule):
    """Keeps the evidence of a model that is only built."""

    code, name, severity = "X001", "listener", "note"
    needs = frozenset({"provenance", "statistics"})
    examples = ()

    def check(self, model: Evidence) -> list[Finding]:
        self.heard = model
        return []


class RunListener(Listener):
    """Keeps the evidence of a model that is run, too."""

    needs = frozenset({"provenance", "statistics", "graph", "probe"})


def evidence(build: Callable[[], nn.Module], *inputs: torch.Tensor) -> Evidence:
    """All that is gathered of a model; it is run on the inputs, if there are any."""
    listener = RunListener() if inputs else Listener()
    report = engine.examine("model", lambda: build, [listener], inputs=(lambda: inputs) if inputs else None)
    assert report.error is None, report.error
    return listener.heard
