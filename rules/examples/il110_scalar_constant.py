"""Models for IL110 scalar-constant."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def scaled_attention(value: float) -> nn.Module:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
            self.log_scale = nn.Parameter(torch.full((), value))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = self.query(x) @ self.key(x).T * self.log_scale.exp()
            mixed: torch.Tensor = scores.softmax(-1) @ self.value(x)
            return mixed

    return Attention()


def temperature_that_multiplies(value: float = 8.0) -> nn.Module:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(64, 64) for _ in range(3))
            self.temperature = nn.Parameter(torch.full((), value))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = self.query(x) @ self.key(x).T * self.temperature
            mixed: torch.Tensor = scores.softmax(-1) @ self.value(x)
            return mixed

    return Attention()


def temperature_of_attention() -> nn.Module:
    return temperature_that_multiplies(1 / 8)


def scale_where_its_logarithm_belongs() -> nn.Module:
    return scaled_attention(8.0)


def logarithm_of_the_scale() -> nn.Module:
    return scaled_attention(-1.386)


def zeros_on_a_branch_of_the_queries() -> nn.Module:
    class Attention(nn.Module):
        up: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(64, 64) for _ in range(3))
            self.register_buffer("up", torch.randn(64, 64) / 8)
            self.scale = nn.Parameter(torch.zeros(64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            query = self.query(x) + (x @ self.up) * self.scale
            mixed: torch.Tensor = (query @ self.key(x).T / 8).softmax(-1) @ self.value(x)
            return mixed

    return nn.Sequential(nn.Linear(64, 64), Attention())


examples = (
    Example(scale_where_its_logarithm_belongs, finds=("log_scale",), inputs=normal(8, 16)),
    Example(temperature_that_multiplies, finds=("temperature",), severity="warning", inputs=normal(8, 64)),
    Example(logarithm_of_the_scale, inputs=normal(8, 16)),
    Example(temperature_of_attention, inputs=normal(8, 64)),
    Example(zeros_on_a_branch_of_the_queries, inputs=normal(8, 64)),
)
