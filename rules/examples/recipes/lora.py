"""LoRA: one of two low-rank factors starts at zero."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def both_lora_factors_random() -> nn.Module:
    class LoRA(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(16, 16).requires_grad_(False)
            self.down = nn.Parameter(torch.randn(4, 16) * 0.1)
            self.up = nn.Parameter(torch.randn(16, 4) * 0.1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            base: torch.Tensor = self.base(x)
            return base + x @ self.down.T @ self.up.T

    return LoRA()


def one_lora_factor_zero() -> nn.Module:
    model = both_lora_factors_random()
    nn.init.zeros_(model.get_parameter("up"))
    return model


examples = (
    Example(both_lora_factors_random, finds=("up",), severity="warning", inputs=normal(8, 16)),
    Example(one_lora_factor_zero, inputs=normal(8, 16)),
)
