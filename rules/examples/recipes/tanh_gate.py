"""Flamingo: the gate of an added branch is tanh(0)."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


class Gated(nn.Module):
    """A residual branch behind the tanh of a single gate."""

    def __init__(self, gate: float) -> None:
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(16), nn.Linear(16, 16)
        self.gate = nn.Parameter(torch.tensor([gate]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch: torch.Tensor = self.gate.tanh() * self.layer(self.norm(x))
        return x + branch


def gate_half_open() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 16), Gated(0.5), nn.Linear(16, 4))


def gate_closed() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 16), Gated(0.0), nn.Linear(16, 4))


examples = (
    Example(gate_half_open, finds=("1.gate",), inputs=normal(8, 16)),
    Example(gate_closed, inputs=normal(8, 16)),
)
