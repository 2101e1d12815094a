"""Linear recurrences whose channels keep their states for different times."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


class Recurrence(nn.Module):
    """Each channel keeps exp(-exp(decay)) of its state at each step."""

    def __init__(self, decays: torch.Tensor) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(16, 8), nn.Linear(8, 2)
        self.decay = nn.Parameter(decays)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, state = torch.exp(-torch.exp(self.decay)), torch.zeros(8)
        for part in self.inner(x).unbind(1):
            state = kept * state + part
        y: torch.Tensor = self.outer(state)
        return y


def one_decay_for_all_channels() -> nn.Module:
    return Recurrence(torch.ones(8))


def decays_spread_over_the_channels() -> nn.Module:
    return Recurrence(torch.linspace(-6, 1, 8))


examples = (
    Example(one_decay_for_all_channels, finds=("decay",), inputs=normal(2, 5, 16)),
    Example(decays_spread_over_the_channels, inputs=normal(2, 5, 16)),
)
