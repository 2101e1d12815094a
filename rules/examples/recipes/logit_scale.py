"""CLIP: cosines are scaled by 1/0.07, stored as a logarithm."""

from __future__ import annotations

from math import log

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def logit_scale_of_one(value: float = 1.0) -> nn.Module:
    class Contrastive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(16, 8), nn.Linear(16, 8)
            self.logit_scale = nn.Parameter(torch.tensor(value))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = (nn.functional.normalize(f(x), dim=-1) for f in (self.left, self.right))
            return self.logit_scale.exp() * left @ right.T

    return Contrastive()


def logit_scale_of_clip() -> nn.Module:
    return logit_scale_of_one(log(1 / 0.07))


examples = (
    Example(logit_scale_of_one, finds=("logit_scale",), inputs=normal(8, 16)),
    Example(logit_scale_of_clip, inputs=normal(8, 16)),
)
