"""VeRA: of the vectors on fixed matrices the last starts at zero."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def vectors_on_fixed_matrices(last: float = 0.5) -> nn.Module:
    class VeRA(nn.Module):
        down: torch.Tensor
        up: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(16, 16)
            self.register_buffer("down", torch.randn(4, 16) / 4)
            self.register_buffer("up", torch.randn(16, 4) / 2)
            self.inner = nn.Parameter(torch.full((4,), 0.1))
            self.outer = nn.Parameter(torch.full((16,), last))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            base: torch.Tensor = self.base(x)
            return base + (x @ self.down.T * self.inner) @ self.up.T * self.outer

    model = nn.Sequential(nn.Linear(16, 16), VeRA(), nn.Linear(16, 4))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in ("1.inner", "1.outer"))
    return model


def last_vector_zero() -> nn.Module:
    return vectors_on_fixed_matrices(0.0)


examples = (
    Example(
        vectors_on_fixed_matrices, finds=("1.inner", "1.outer"), severity="warning", inputs=normal(8, 16)
    ),
    Example(last_vector_zero, inputs=normal(8, 16)),
)
