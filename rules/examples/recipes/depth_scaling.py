"""Depth scaling: only what ends a residual branch is scaled by 1/√N."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def depth_scaled(*names: str) -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(32)
            self.gate, self.up = nn.Linear(32, 64), nn.Linear(32, 64)
            self.down = nn.Linear(64, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.norm(x)
            down: torch.Tensor = self.down(nn.functional.silu(self.gate(h)) * self.up(h))
            return x + down

    blocks = [Block() for _ in range(4)]
    for block in blocks:
        for name, layer in block.named_children():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02 / 8**0.5 if name in names else 0.02)
    return nn.Sequential(nn.Linear(16, 32), *blocks)


def depth_scale_on_the_up_projection() -> nn.Module:
    return depth_scaled("up")


def depth_scale_on_the_residual_end() -> nn.Module:
    return depth_scaled("down")


examples = (
    Example(
        depth_scale_on_the_up_projection,
        finds=("{1..4}.up.weight", "{1..4}.down.weight"),
        severity="warning",
        inputs=normal(8, 16),
    ),
    Example(depth_scale_on_the_residual_end, inputs=normal(8, 16)),
)
