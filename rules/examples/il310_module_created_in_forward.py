"""Models for IL310 module-created-in-forward."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def layer_made_in_forward() -> nn.Module:
    class Fresh(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            head = nn.Linear(8, 2)
            logits: torch.Tensor = head(self.body(x))
            return logits

    return Fresh()


def layer_made_at_the_first_call() -> nn.Module:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.head: nn.Module | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.head is None:
                self.head = nn.Linear(x.shape[1], 2)
            logits: torch.Tensor = self.head(self.body(x))
            return logits

    return Late()


def activation_made_in_forward() -> nn.Module:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(nn.Dropout(0.1)(nn.ReLU()(self.body(x))))
            return logits

    return Classifier()


examples = (
    Example(layer_made_in_forward, finds=("Linear",), inputs=normal(16, 8)),
    Example(layer_made_at_the_first_call, finds=("Linear",), inputs=normal(16, 8)),
    Example(activation_made_in_forward, inputs=normal(16, 8)),
)
