"""Mamba: steps of 0.001 to 0.1, and decay rates that differ between states."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


class StateSpace(nn.Module):
    """A diagonal state space with learned steps, unrolled over time."""

    def __init__(self, rates: torch.Tensor, step: float) -> None:
        super().__init__()
        self.rates = nn.Parameter(rates.log())
        self.step = nn.Linear(16, 16)
        nn.init.constant_(self.step.bias, torch.tensor(step).expm1().log().item())
        nn.init.normal_(self.step.weight, std=0.01)
        with torch.no_grad():
            self.step.bias.add_(torch.linspace(-0.5, 0.5, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state, outputs = torch.zeros(16, 4), []
        for part in x.unbind(1):
            step = nn.functional.softplus(self.step(part))[..., None]
            state = torch.exp(-step * self.rates.exp()) * state + step * part[..., None]
            outputs.append(state.sum(-1))
        return torch.stack(outputs, 1)


def all_states_decay_alike() -> nn.Module:
    return StateSpace(torch.ones(16, 4), step=0.03)


def states_of_many_lengths() -> nn.Module:
    return StateSpace(torch.arange(1.0, 5.0).expand(16, 4), step=0.03)


examples = (
    Example(all_states_decay_alike, finds=("rates",), inputs=normal(2, 5, 16)),
    Example(states_of_many_lengths, inputs=normal(2, 5, 16)),
)
