"""Adapters: a bottleneck branch beside frozen layers starts near zero."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


class Adapted(nn.Module):
    """A frozen layer, and a bottleneck with its own residual connection behind it."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16).requires_grad_(False)
        self.down, self.up = nn.Linear(16, 4), nn.Linear(4, 16)
        nn.init.normal_(self.down.weight, std=std)
        nn.init.normal_(self.up.weight, std=std)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        branch: torch.Tensor = self.up(self.down(x).relu())
        return x + branch


def adapter_of_unit_std() -> nn.Module:
    return Adapted(1.0)


def adapter_near_the_identity() -> nn.Module:
    return Adapted(0.01)


examples = (
    Example(adapter_of_unit_std, finds=("up.weight",), severity="warning", inputs=normal(8, 16)),
    Example(adapter_near_the_identity, inputs=normal(8, 16)),
)
