"""Models for IL203 huge-variance."""

from __future__ import annotations

from math import sqrt

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def head_of_std_one() -> nn.Module:
    readout = nn.Linear(256, 10)
    nn.init.normal_(readout.weight)
    return nn.Sequential(nn.Linear(32, 256), nn.LayerNorm(256), readout)


def missing_parentheses() -> nn.Module:
    hidden = nn.Linear(32, 64)
    nn.init.normal_(hidden.weight, std=sqrt(2 / 32 + 64))
    return nn.Sequential(hidden, nn.Tanh(), nn.Linear(64, 10))


def squeeze_by_fan_out() -> nn.Module:
    squeeze = nn.Conv2d(256, 8, 1)
    nn.init.kaiming_normal_(squeeze.weight, mode="fan_out")
    return nn.Sequential(
        nn.Flatten(1),
        nn.Linear(32, 256),
        nn.Unflatten(1, (256, 1, 1)),
        squeeze,
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
    )


def table_of_std_one() -> nn.Module:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions = nn.Parameter(torch.randn(16, 32))
            self.readout = nn.Linear(32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.readout(x + self.positions)
            return logits

    return Positions()


def random_fourier_features() -> nn.Module:
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frequencies = nn.Parameter(torch.randn(32, 64) * 10, requires_grad=False)
            self.readout = nn.Linear(128, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            angles = x @ self.frequencies
            y: torch.Tensor = self.readout(torch.cat([angles.sin(), angles.cos()], dim=-1))
            return y

    return Features()


examples = (
    Example(head_of_std_one, finds=("2.weight",), inputs=normal(16, 32)),
    Example(missing_parentheses, finds=("0.weight",), inputs=normal(16, 32)),
    Example(squeeze_by_fan_out, inputs=normal(16, 32)),
    Example(table_of_std_one, inputs=normal(16, 32)),
    Example(random_fourier_features, inputs=normal(16, 32)),
)
