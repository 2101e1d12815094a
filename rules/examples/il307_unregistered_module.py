"""Models for IL307 unregistered-module."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def layers_in_a_list() -> nn.Module:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(8, 8) for _ in range(3)]
            self.head = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = torch.relu(layer(x))
            logits: torch.Tensor = self.head(x)
            return logits

    return Stack()


def layer_in_a_closure() -> nn.Module:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.Linear(8, 8)

            def branch(x: torch.Tensor) -> torch.Tensor:
                return torch.relu(layer(x))

            self.branch = branch
            self.head = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(x + self.branch(x))
            return logits

    return Residual()


def layers_in_a_module_list() -> nn.Module:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
            self.order = [self.layers[i] for i in (2, 0, 1)]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.order:
                x = layer(x)
            return x

    return Stack()


def frozen_critic_kept_aside() -> nn.Module:
    class Perceptual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.critic = [nn.Linear(8, 8).requires_grad_(False)]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            score: torch.Tensor = self.critic[0](self.body(x))
            return score

    return Perceptual()


examples = (
    Example(layers_in_a_list, finds=("layers.{0..2}",), inputs=normal(16, 8)),
    Example(layer_in_a_closure, finds=("branch",), inputs=normal(16, 8)),
    Example(layers_in_a_module_list, inputs=normal(16, 8)),
    Example(frozen_critic_kept_aside, inputs=normal(16, 8)),
)
