"""Models for IL202 tiny-variance."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def hidden_layer_of_std_one_thousandth() -> nn.Module:
    hidden = nn.Linear(64, 64)
    nn.init.normal_(hidden.weight, std=0.001)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), hidden, nn.ReLU(), nn.Linear(64, 4))


def two_branches(std: float) -> nn.Module:
    class Fusion(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.text, self.audio = nn.Linear(32, 64), nn.Linear(32, 64)
            self.norm, self.readout = nn.LayerNorm(64), nn.Linear(64, 4)
            nn.init.normal_(self.text.weight, std=0.02)
            nn.init.normal_(self.audio.weight, std=std)
            for layer in (self.text, self.audio):
                nn.init.zeros_(layer.bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.readout(self.norm(self.text(x) + self.audio(x.flip(1))))
            return y

    return Fusion()


def branch_lost_in_a_sum() -> nn.Module:
    return two_branches(std=0.02**2)


def branches_alike() -> nn.Module:
    return two_branches(std=0.02)


def small_head() -> nn.Module:
    head = nn.Linear(64, 4)
    nn.init.orthogonal_(head.weight, gain=0.01)
    return nn.Sequential(nn.Linear(32, 64), nn.Tanh(), head)


def small_layers_that_are_normalised() -> nn.Module:
    first, second = nn.Linear(32, 64), nn.Linear(64, 64)
    for layer in (first, second):
        nn.init.normal_(layer.weight, std=0.001)
    return nn.Sequential(
        first, nn.BatchNorm1d(64), nn.ReLU(), second, nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4)
    )


def small_end_of_a_branch() -> nn.Module:
    class Adapter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(32, 32)
            self.down, self.up = nn.Linear(32, 8), nn.Linear(8, 32)
            nn.init.normal_(self.up.weight, std=1e-4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            result: torch.Tensor = x + self.up(torch.relu(self.down(x)))
            return result

    return Adapter()


def small_head_of_two_layers() -> nn.Module:
    hidden, readout = nn.Linear(64, 64), nn.Linear(64, 4)
    for layer in (hidden, readout):
        nn.init.normal_(layer.weight, std=0.001)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), hidden, nn.ReLU(), readout)


def gate_held_open_by_its_bias() -> nn.Module:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(32, 32), nn.Linear(32, 4)
            self.weight, self.bias = nn.Parameter(torch.empty(32, 32)), nn.Parameter(torch.ones(32))
            nn.init.normal_(self.weight, std=1e-6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.inner(x)
            gated: torch.Tensor = self.outer(hidden * (hidden @ self.weight + self.bias))
            return gated

    return Gated()


examples = (
    Example(hidden_layer_of_std_one_thousandth, finds=("2.weight",), inputs=normal(16, 32)),
    Example(branch_lost_in_a_sum, finds=("audio.weight",), inputs=normal(16, 32)),
    Example(branches_alike, inputs=normal(16, 32)),
    Example(small_head, inputs=normal(16, 32)),
    Example(small_layers_that_are_normalised, inputs=normal(16, 32)),
    Example(small_end_of_a_branch, inputs=normal(16, 32)),
    Example(small_head_of_two_layers, inputs=normal(16, 32)),
    Example(gate_held_open_by_its_bias, inputs=normal(16, 32)),
)
