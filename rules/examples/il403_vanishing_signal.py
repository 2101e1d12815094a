"""Models for IL403 vanishing-signal."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def deep_stack_left_at_the_default() -> nn.Module:
    hidden = [layer for _ in range(12) for layer in (nn.Linear(32, 32), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(32, 4))


def small_normal_values_under_tanh() -> nn.Module:
    model = nn.Sequential(*(layer for _ in range(8) for layer in (nn.Linear(32, 32), nn.Tanh())))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
    return model


def four_layers_left_at_the_default() -> nn.Module:
    hidden = [layer for _ in range(4) for layer in (nn.Linear(32, 32), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(32, 4))


def deep_stack_with_he_initialisation() -> nn.Module:
    model = deep_stack_left_at_the_default()
    for layer in model.children():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model


def normalised_deep_stack() -> nn.Module:
    hidden = [layer for _ in range(12) for layer in (nn.Linear(32, 32), nn.LayerNorm(32), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(32, 4))


def residual_branches_scaled_down() -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
            self.scale = nn.Parameter(torch.full((32,), 1e-6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            branch: torch.Tensor = self.branch(x)
            return x + self.scale * branch

    return nn.Sequential(*(Block() for _ in range(8)), nn.Linear(32, 4))


def zero_head() -> nn.Module:
    model = four_layers_left_at_the_default()
    nn.init.zeros_(model.get_parameter("8.weight"))
    return model


examples = (
    Example(
        deep_stack_left_at_the_default,
        finds=("{0,2,4,6,8,10,12,14,16,18,20,22,24}.weight",),
        inputs=normal(16, 32),
    ),
    Example(small_normal_values_under_tanh, finds=("{0,2,4,6,8,10,12,14}.weight",), inputs=normal(16, 32)),
    Example(four_layers_left_at_the_default, inputs=normal(16, 32)),
    Example(deep_stack_with_he_initialisation, inputs=normal(16, 32)),
    Example(normalised_deep_stack, inputs=normal(16, 32)),
    Example(residual_branches_scaled_down, inputs=normal(16, 32)),
    Example(zero_head, inputs=normal(16, 32)),
)
