"""Models for IL103 dead-zero-init."""

from __future__ import annotations

import copy

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def both_lora_factors_zero() -> nn.Module:
    class LoRA(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(8, 8)
            self.down = nn.Parameter(torch.zeros(2, 8))
            self.up = nn.Parameter(torch.zeros(8, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            base: torch.Tensor = self.base(x)
            return base + x @ self.down.T @ self.up.T

    return LoRA()


def zero_branch_behind_a_zero_gate(*, gate: float = 0.0) -> nn.Module:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 8)
            self.gate = nn.Parameter(torch.full((8,), gate))
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            branch: torch.Tensor = self.outer(torch.relu(self.inner(x)))
            return x + self.gate * branch

    return Branch()


def zero_branch_behind_an_open_gate() -> nn.Module:
    return zero_branch_behind_a_zero_gate(gate=1.0)


def zeros_into_relu() -> nn.Module:
    hidden = nn.Linear(8, 16)
    nn.init.zeros_(hidden.weight)
    nn.init.zeros_(hidden.bias)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(16, 4))


def zeros_in_the_middle() -> nn.Module:
    middle = nn.Linear(16, 16)
    nn.init.zeros_(middle.weight)
    nn.init.zeros_(middle.bias)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), middle, nn.Tanh(), nn.Linear(16, 2))


def three_units(*empty: str) -> nn.Module:
    class Unit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = x + self.outer(torch.sigmoid(self.gate(x)) * torch.tanh(self.inner(x)))
            return y

    model = nn.Sequential(Unit(), Unit(), Unit())
    for name in empty:
        nn.init.zeros_(model.get_parameter(name))
    return model


def gate_of_one_unit_of_three() -> nn.Module:
    return three_units("1.gate.weight")


def gates_of_all_units() -> nn.Module:
    return three_units(*(f"{i}.gate.weight" for i in range(3)))


def one_lora_factor_zero() -> nn.Module:
    model = both_lora_factors_zero()
    nn.init.normal_(model.get_parameter("down"))
    return model


def zero_head() -> nn.Module:
    head = nn.Linear(16, 4)
    nn.init.zeros_(head.weight)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), head)


def frozen_zero_head() -> nn.Module:
    model = zero_head()
    model.get_parameter("2.weight").requires_grad_(False)
    return model


def adapted_zero_base() -> nn.Module:
    model = one_lora_factor_zero()
    for parameter in model.get_submodule("base").parameters():
        parameter.detach().zero_()
        parameter.requires_grad_(False)
    return model


def frozen_copy_of_a_zero_head() -> nn.Module:
    class Distilled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = zero_head()
            self.teacher = copy.deepcopy(self.student).requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            distance: torch.Tensor = self.student(x) - self.teacher(x)
            return distance

    return Distilled()


def adapter_of_a_frozen_zero_layer() -> nn.Module:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.base = nn.Linear(8, 8), nn.Linear(8, 8)
            nn.init.zeros_(self.base.weight)
            self.base.requires_grad_(False)
            self.down, self.up = nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)
            nn.init.zeros_(self.up.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.stem(x)
            y: torch.Tensor = self.base(h) + self.up(self.down(h))
            return y

    return Adapted()


examples = (
    Example(both_lora_factors_zero, finds=("down", "up"), inputs=normal(16, 8)),
    Example(zero_branch_behind_a_zero_gate, finds=("outer.weight", "gate"), inputs=normal(16, 8)),
    Example(zeros_into_relu, finds=("0.weight",), inputs=normal(16, 8)),
    Example(zeros_in_the_middle, finds=("2.weight",), severity="note", inputs=normal(16, 8)),
    Example(gate_of_one_unit_of_three, finds=("1.gate.weight",), severity="note", inputs=normal(16, 8)),
    Example(gates_of_all_units, inputs=normal(16, 8)),
    Example(frozen_zero_head, finds=("2.weight",), inputs=normal(16, 8)),
    Example(one_lora_factor_zero, inputs=normal(16, 8)),
    Example(zero_branch_behind_an_open_gate, inputs=normal(16, 8)),
    Example(adapted_zero_base, inputs=normal(16, 8)),
    Example(frozen_copy_of_a_zero_head, inputs=normal(16, 8)),
    Example(adapter_of_a_frozen_zero_layer, inputs=normal(16, 8)),
    Example(zero_head, inputs=normal(16, 8)),
)
