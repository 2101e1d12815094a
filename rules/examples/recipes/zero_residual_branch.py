"""Residual branches of one kind start switched off, all or none."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


class Residual(nn.Module):
    """A branch that ends in a norm of gain zero."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(16, 16), nn.LayerNorm(16)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch: torch.Tensor = self.norm(self.layer(x.relu()))
        return x + branch


def one_branch_left_open() -> nn.Module:
    model = nn.Sequential(nn.Linear(16, 16), *(Residual() for _ in range(3)))
    nn.init.ones_(model.get_parameter("2.norm.weight"))
    return model


def every_branch_closed() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 16), *(Residual() for _ in range(3)))


examples = (
    Example(one_branch_left_open, finds=("2.norm.weight",), severity="warning", inputs=normal(8, 16)),
    Example(every_branch_closed, inputs=normal(8, 16)),
)
