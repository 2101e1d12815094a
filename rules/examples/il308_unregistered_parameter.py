"""Models for IL308 unregistered-parameter."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def scaled_after_it_was_made() -> nn.Module:
    class Projection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.weight = nn.Parameter(torch.randn(8, 4)) * 0.1

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            projected: torch.Tensor = self.body(x) @ self.weight
            return projected

    return Projection()


def parameters_in_a_dict() -> nn.Module:
    class Relations(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.gates = {name: nn.Parameter(torch.ones(8)) for name in ("left", "right")}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.body(x)
            return hidden * self.gates["left"] + x * self.gates["right"]

    return Relations()


def parameters_in_a_parameter_dict() -> nn.Module:
    class Relations(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.gates = nn.ParameterDict({name: torch.ones(8) for name in ("left", "right")})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.body(x)
            mixed: torch.Tensor = hidden * self.gates["left"] + x * self.gates["right"]
            return mixed

    return Relations()


def weight_computed_from_parameters() -> nn.Module:
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 2))


examples = (
    Example(scaled_after_it_was_made, finds=("weight",), inputs=normal(16, 8)),
    Example(parameters_in_a_dict, finds=("gates.left", "gates.right"), inputs=normal(16, 8)),
    Example(parameters_in_a_parameter_dict, inputs=normal(16, 8)),
    Example(weight_computed_from_parameters, inputs=normal(16, 8)),
)
