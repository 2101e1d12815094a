"""Outputs that look like class logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import fx

from initlint.evidence import Logits
from initlint.probe.reductions import is_readable, sample


def logits(results: Sequence[tuple[fx.Node, torch.Tensor]]) -> Iterator[Logits]:
    """Outputs shaped [batch, classes] or [batch, positions, classes], probabilities left out.

    The loss is the cross-entropy expected over uniformly random targets: logsumexp - mean of each row.
    """
    for node, output in results:
        if output.dim() not in (2, 3) or not output.is_floating_point() or not is_readable(output):
            continue
        classes = int(output.shape[-1])
        values = sample(output.detach(), (output.dim() - 1,))
        if classes < 2 or values.shape[-1] != classes or _probabilities(values):
            continue
        loss = (values.logsumexp(-1) - values.mean(-1)).mean()
        yield Logits(node.name, classes, float(values.std()), float(loss))


def _probabilities(values: torch.Tensor) -> bool:
    return bool((values >= 0).all()) and bool(((values.sum(-1) - 1).abs() < 1e-3).all())
