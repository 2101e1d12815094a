"""Models for IL313 frozen-random."""

from __future__ import annotations

import copy

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def frozen_before_it_was_loaded() -> nn.Module:
    first = nn.Linear(8, 8)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        first.weight.mul_(0.5)
    for parameter in first.parameters():
        parameter.requires_grad = False
    return model


def embedding_frozen_by_default() -> nn.Module:
    table = torch.randn(16, 8)
    embed: nn.Module = nn.Embedding.from_pretrained(table)  # type: ignore[no-untyped-call]
    return nn.Sequential(embed, nn.Linear(8, 2))


def random_features() -> nn.Module:
    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frequencies = nn.Parameter(torch.randn(8, 16), requires_grad=False)
            self.head = nn.Linear(16, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(torch.sin(x @ self.frequencies))
            return logits

    return Fourier()


def teacher() -> nn.Module:
    class Distilled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = nn.Linear(8, 8)
            self.teacher = copy.deepcopy(self.student).requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            distance: torch.Tensor = self.student(x) - self.teacher(x)
            return distance

    return Distilled()


def low_rank_adapter() -> nn.Module:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(8, 8).requires_grad_(False)
            self.down = nn.Parameter(torch.randn(2, 8) / 8)
            self.up = nn.Parameter(torch.zeros(8, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.base(x) + x @ self.down.T @ self.up.T
            return hidden

    return Adapted()


def gated_branch_beside_a_frozen_one() -> nn.Module:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(8, 8).requires_grad_(False)
            self.branch = nn.Linear(8, 8)
            self.gate = nn.Parameter(torch.zeros(1))
            self.readout = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.base(x) + self.gate.tanh() * self.branch(x)
            y: torch.Tensor = self.readout(torch.relu(h))
            return y

    return Gated()


def loaded_and_frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].load_state_dict({"weight": torch.eye(8), "bias": torch.zeros(8)})
    model[0].requires_grad_(False)
    return model


examples = (
    Example(frozen_before_it_was_loaded, finds=("0.weight", "0.bias")),
    Example(embedding_frozen_by_default, finds=("0.weight",)),
    Example(random_features, inputs=normal(16, 8)),
    Example(teacher, inputs=normal(16, 8)),
    Example(low_rank_adapter, inputs=normal(16, 8)),
    Example(gated_branch_beside_a_frozen_one, inputs=normal(16, 8)),
    Example(loaded_and_frozen),
)
