"""Models for IL309 unregistered-buffer."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def table_in_an_attribute() -> nn.Module:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.linspace(0, 1, 8).repeat(16, 1)
            self.body = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.body(x + self.table)
            return hidden

    return Positions()


def drawn_and_moved_by_hand() -> nn.Module:
    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frequencies = torch.randn(8, 8)
            self.body = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.body(torch.sin(x @ self.frequencies.to(x.device)))
            return features

    return Fourier()


def table_in_a_buffer() -> nn.Module:
    class Positions(nn.Module):
        table: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.linspace(0, 1, 8).repeat(16, 1), persistent=False)
            self.body = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.body(x + self.table)
            return hidden

    return Positions()


def table_moved_by_hand() -> nn.Module:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.linspace(0, 1, 8).repeat(16, 1)
            self.body = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            table = self.table.to(x.device)
            hidden: torch.Tensor = self.body(x + table)
            return hidden

    return Positions()


def scalar_and_index() -> nn.Module:
    class Picked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.tensor(0.5)
            self.order = torch.tensor([3, 2, 1, 0])
            self.body = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.body(x)
            return self.scale * hidden[:, self.order]

    return Picked()


examples = (
    Example(table_in_an_attribute, finds=("table",), inputs=normal(16, 8)),
    Example(drawn_and_moved_by_hand, finds=("frequencies",), inputs=normal(16, 8)),
    Example(table_in_a_buffer, inputs=normal(16, 8)),
    Example(table_moved_by_hand, inputs=normal(16, 8)),
    Example(scalar_and_index, inputs=normal(16, 8)),
)
