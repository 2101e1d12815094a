"""Models for IL408 non-finite-signal."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from initlint import Example
from initlint.testing import normal


def normalised_zero_weight() -> nn.Module:
    readout = nn.Linear(8, 4)
    nn.init.zeros_(readout.weight)
    weight_norm(readout)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), readout)


def exponential_of_large_values() -> nn.Module:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = nn.Linear(8, 8)
            nn.init.normal_(self.log_scale.weight, std=1000)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale: torch.Tensor = torch.exp(self.log_scale(x))
            return x * scale

    return Scale()


def masked_attention_scores() -> nn.Module:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.query(x) @ self.key(x).T
            hidden = torch.ones_like(scores, dtype=torch.bool).triu(1)
            return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ x

    return Masked()


examples = (
    Example(
        normalised_zero_weight,
        finds=(
            "2.parametrizations.weight.0",
            "2.parametrizations.weight.original1",
            "2.parametrizations.weight.original0",
        ),
        inputs=normal(16, 8),
    ),
    Example(exponential_of_large_values, finds=("log_scale.weight", "log_scale.bias"), inputs=normal(16, 8)),
    Example(masked_attention_scores, inputs=normal(16, 8)),
)
