"""SIREN: sine layers are drawn so that their inputs stay spread."""

from __future__ import annotations

from math import sqrt

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


class Sines(nn.Module):
    """Three layers under sin(30 x), the later ones drawn for frequency `omega`."""

    def __init__(self, omega: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 64), nn.Linear(64, 64), nn.Linear(64, 64)])
        for index in range(3):
            bound = sqrt(6 / 64) / omega if index else 1 / 16
            nn.init.uniform_(self.get_parameter(f"layers.{index}.weight"), -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.sin(30 * layer(x))
        return x


def frequency_left_out() -> nn.Module:
    return Sines(omega=1.0)


def frequency_divided_out() -> nn.Module:
    return Sines(omega=30.0)


examples = (
    Example(frequency_left_out, finds=("layers.{1,2}.weight",), severity="warning", inputs=normal(8, 16)),
    Example(frequency_divided_out, inputs=normal(8, 16)),
)
