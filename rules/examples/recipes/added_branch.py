"""ControlNet: a trained branch beside a frozen model ends in zeros."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


class Controlled(nn.Module):
    """Two frozen layers, and a trained branch whose end is added between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 16).requires_grad_(False)
        self.control, self.joint = nn.Linear(16, 16), nn.Linear(16, 16)
        self.second = nn.Linear(16, 16).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.joint(self.control(x).relu())
        y: torch.Tensor = self.second(self.first(x) + added)
        return y


def added_branch_drawn() -> nn.Module:
    return Controlled()


def added_branch_ends_in_zeros() -> nn.Module:
    model = Controlled()
    nn.init.zeros_(model.joint.weight)
    nn.init.zeros_(model.joint.bias)
    return model


examples = (
    Example(added_branch_drawn, finds=("joint.weight",), severity="warning", inputs=normal(8, 16)),
    Example(added_branch_ends_in_zeros, inputs=normal(8, 16)),
)
