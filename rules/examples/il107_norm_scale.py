"""Models for IL107 norm-scale."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def drawn_around_zero() -> nn.Module:
    norm = nn.LayerNorm(16)
    nn.init.normal_(norm.weight, std=0.02)
    return nn.Sequential(nn.Linear(8, 16), norm, nn.Linear(16, 4))


def ones_added_to_one() -> nn.Module:
    class RMSNorm(nn.Module):
        def __init__(self, initial: float) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.full((16,), initial))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.gain)

    return nn.Sequential(nn.Linear(8, 16), RMSNorm(1.0), nn.Linear(16, 4))


def zeros_added_to_one() -> nn.Module:
    model = ones_added_to_one()
    nn.init.zeros_(model.get_parameter("1.gain"))
    return model


def drawn_around_one() -> nn.Module:
    norm = nn.BatchNorm1d(16)
    nn.init.normal_(norm.weight, 1.0, 0.02)
    return nn.Sequential(nn.Linear(8, 16), norm, nn.ReLU(), nn.Linear(16, 4))


def zero_at_the_end_of_a_branch() -> nn.Module:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.LayerNorm(8))
            nn.init.zeros_(self.branch[3].weight)  # type: ignore[arg-type]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            branch: torch.Tensor = self.branch(x)
            return x + branch

    return Residual()


examples = (
    Example(drawn_around_zero, finds=("1.weight",), inputs=normal(16, 8)),
    Example(ones_added_to_one, finds=("1.gain",), inputs=normal(16, 8)),
    Example(zeros_added_to_one, inputs=normal(16, 8)),
    Example(drawn_around_one, inputs=normal(16, 8)),
    Example(zero_at_the_end_of_a_branch, inputs=normal(16, 8)),
)
