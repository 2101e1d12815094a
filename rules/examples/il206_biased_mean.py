"""Models for IL206 biased-mean."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def rand_instead_of_randn() -> nn.Module:
    class Projection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(32, 16) * 0.1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    return Projection()


def uniform_from_zero() -> nn.Module:
    hidden = nn.Linear(32, 64)
    nn.init.uniform_(hidden.weight, 0, 0.1)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(64, 4))


def centred_uniform() -> nn.Module:
    model = nn.Linear(32, 64)
    nn.init.uniform_(model.weight, -0.1, 0.1)
    return model


def small_shift() -> nn.Module:
    model = nn.Linear(32, 64)
    nn.init.normal_(model.weight, mean=0.002, std=0.1)
    return model


def positive_position_table() -> nn.Module:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.rand(1, 16, 32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.table

    return Positions()


examples = (
    Example(rand_instead_of_randn, finds=("weight",), inputs=normal(16, 32)),
    Example(uniform_from_zero, finds=("0.weight",), inputs=normal(16, 32)),
    Example(centred_uniform, inputs=normal(16, 32)),
    Example(small_shift, inputs=normal(16, 32)),
    Example(positive_position_table, inputs=normal(4, 16, 32)),
)
