"""Models for IL101 constant-weight."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def filled_with_one_value() -> nn.Module:
    hidden, readout = nn.Linear(8, 16), nn.Linear(16, 4)
    for layer in (hidden, readout):
        nn.init.constant_(layer.weight, 0.1)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(hidden, nn.Tanh(), readout)


def filled_beside_random_biases() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    nn.init.constant_(model[0].weight, 0.1)  # type: ignore[arg-type]
    return model


def filled_readout() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    nn.init.ones_(model[2].weight)  # type: ignore[arg-type]
    return model


def filled_stack() -> nn.Module:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Parameter(torch.full((3, 8, 16), 0.1))
            self.readout = nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.einsum("bi,eij->bej", x, self.weights).tanh().sum(1)
            logits: torch.Tensor = self.readout(hidden)
            return logits

    return Experts()


def scale_of_noise_on_a_readout() -> nn.Module:
    class Noisy(nn.Module):
        noise: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.randn(4, 8) / 4)
            self.spread = nn.Parameter(torch.full((4, 8), 0.1))
            self.register_buffer("noise", torch.zeros(4, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.mean + self.spread * self.noise)

    return Noisy()


def zero_head() -> nn.Module:
    head = nn.Linear(16, 4)
    nn.init.zeros_(head.weight)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), head)


def moving_average() -> nn.Module:
    model = nn.Linear(8, 4)
    nn.init.constant_(model.weight, 1 / 8)
    return model


def single_unit() -> nn.Module:
    model = nn.Linear(8, 1)
    nn.init.constant_(model.weight, 0.1)
    return model


examples = (
    Example(filled_with_one_value, finds=("{0,2}.weight",), inputs=normal(16, 8)),
    Example(filled_beside_random_biases, finds=("0.weight",), severity="warning", inputs=normal(16, 8)),
    Example(filled_readout, finds=("2.weight",), severity="warning", inputs=normal(16, 8)),
    Example(filled_stack, finds=("weights",), severity="warning", inputs=normal(16, 8)),
    Example(scale_of_noise_on_a_readout, inputs=normal(16, 8)),
    Example(zero_head, inputs=normal(16, 8)),
    Example(moving_average, inputs=normal(16, 8)),
    Example(single_unit, inputs=normal(16, 8)),
)
