"""Models for IL404 exploding-signal."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def residual_sums_without_normalisation() -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
            nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
            nn.init.kaiming_normal_(self.second.weight, nonlinearity="relu")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.second(torch.relu(self.first(x)))
            return x + hidden

    return nn.Sequential(*(Block() for _ in range(12)), nn.Linear(32, 4))


def residual_branches_divided_by_depth() -> nn.Module:
    model = residual_sums_without_normalisation()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("second.weight"):
                weight.mul_(12**-0.5)
    return model


def residual_sums_before_a_norm() -> nn.Module:
    blocks = list(residual_sums_without_normalisation().children())
    return nn.Sequential(*blocks[:-1], nn.LayerNorm(32), blocks[-1])


def deep_stack_with_he_initialisation() -> nn.Module:
    hidden = [layer for _ in range(12) for layer in (nn.Linear(32, 32, bias=False), nn.ReLU())]
    for layer in hidden:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(*hidden, nn.Linear(32, 4))


examples = (
    Example(residual_sums_without_normalisation, finds=("{0..11}.second.weight",), inputs=normal(16, 32)),
    Example(residual_branches_divided_by_depth, inputs=normal(16, 32)),
    Example(residual_sums_before_a_norm, inputs=normal(16, 32)),
    Example(deep_stack_with_he_initialisation, inputs=normal(16, 32)),
)
