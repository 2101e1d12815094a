"""Rescaling adapters (IA3): trained factors on frozen activations start at one."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


class Rescaled(nn.Module):
    """Frozen layers with a trained factor for each feature between them."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 32).requires_grad_(False)
        self.factors = nn.Parameter(torch.full((32,), factor))
        self.outer = nn.Linear(32, 16).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.outer(self.inner(x) * self.factors)
        return y


def factors_of_one_half() -> nn.Module:
    return Rescaled(0.5)


def factors_of_one() -> nn.Module:
    return Rescaled(1.0)


examples = (
    Example(factors_of_one_half, finds=("factors",), severity="warning", inputs=normal(8, 16)),
    Example(factors_of_one, inputs=normal(8, 16)),
)
