"""Models for IL401 dead-units."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def bias_far_below_zero() -> nn.Module:
    hidden = nn.Linear(32, 64)
    nn.init.constant_(hidden.bias, -10)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(64, 4))


def single_unit(bias: float = -4.0) -> nn.Module:
    model = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1), nn.ReLU())
    nn.init.normal_(model[2].weight, std=0.02)  # type: ignore[arg-type]
    nn.init.constant_(model[2].bias, bias)  # type: ignore[arg-type]
    return model


def single_unit_by_chance() -> nn.Module:
    return single_unit(-0.1)


def negative_weights_on_positive_inputs() -> nn.Module:
    second = nn.Linear(64, 64)
    nn.init.uniform_(second.weight, -0.2, 0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), second, nn.ReLU(), nn.Linear(64, 4))


def threshold_above_the_signal() -> nn.Module:
    class Thresholded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode = nn.Linear(32, 64, bias=False), nn.Linear(64, 4)
            self.threshold = nn.Parameter(torch.full((64,), 5.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.decode(torch.relu(self.encode(x) - self.threshold))
            return y

    return Thresholded()


def default_initialisation() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))


def squeeze_and_excitation() -> nn.Module:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 32, 3)
            self.gate = nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 32), nn.Sigmoid())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.relu(self.conv(x))
            gate: torch.Tensor = self.gate(hidden.mean((2, 3)))
            return hidden * gate[:, :, None, None]

    return Gated()


def zero_gain_of_the_last_norm() -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            nn.init.zeros_(self.norm.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x + self.norm(self.conv(x)))

    return Block()


def narrow_rectified_layer() -> nn.Module:
    torch.manual_seed(6)
    layers = nn.Linear(32, 4), nn.Linear(4, 256), nn.Linear(256, 2)
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


examples = (
    Example(bias_far_below_zero, finds=("0.bias", "0.weight", "1"), severity="error", inputs=normal(16, 32)),
    Example(single_unit, finds=("2.bias", "2.weight", "3"), severity="error", inputs=normal(16, 32)),
    Example(
        negative_weights_on_positive_inputs,
        finds=("2.weight", "2.bias", "3"),
        severity="error",
        inputs=normal(16, 32),
    ),
    Example(
        threshold_above_the_signal,
        finds=("threshold", "encode.weight"),
        severity="error",
        inputs=normal(16, 32),
    ),
    Example(single_unit_by_chance, inputs=normal(16, 32)),
    Example(default_initialisation, inputs=normal(16, 32)),
    Example(narrow_rectified_layer, inputs=normal(16, 32)),
    Example(squeeze_and_excitation, inputs=normal(2, 3, 12, 12)),
    Example(zero_gain_of_the_last_norm, inputs=normal(2, 3, 12, 12)),
)
