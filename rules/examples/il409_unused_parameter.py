"""Models for IL409 unused-parameter."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def layer_that_forward_forgets() -> nn.Module:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.head(torch.relu(self.first(x)))
            return hidden

    return Forgetful()


def weight_used_without_calling_its_module() -> nn.Module:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projection = nn.Linear(8, 8, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.projection.weight)

    return Functional()


def branch_that_the_input_does_not_take() -> nn.Module:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.token = nn.Parameter(torch.zeros(8))

        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            if mask is not None:
                x = torch.where(mask, self.token, x)
            hidden: torch.Tensor = self.body(x)
            return hidden

    return Masked()


def detached() -> nn.Module:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.head(self.first(x).detach())
            return hidden

    return Detached()


examples = (
    Example(layer_that_forward_forgets, finds=("second.weight", "second.bias"), inputs=normal(16, 8)),
    Example(detached, finds=("first.weight", "first.bias"), severity="note", inputs=normal(16, 8)),
    Example(weight_used_without_calling_its_module, inputs=normal(16, 8)),
    Example(branch_that_the_input_does_not_take, inputs=normal(16, 8)),
)
