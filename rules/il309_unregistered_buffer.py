"""IL309 unregistered-buffer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Example, Location, Rule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding


def table_in_an_attribute() -> nn.Module:
    import torch
    from torch import nn

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
    import torch
    from torch import nn

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
    import torch
    from torch import nn

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
    import torch
    from torch import nn

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
    import torch
    from torch import nn

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


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class UnregisteredBuffer(Rule):
    """A tensor that takes part in forward, but is neither parameter nor buffer.

    `model.to(device)` leaves it where it is, so that the forward fails on any other device; and if its
    values are drawn, a model restored from a checkpoint computes with others than the one that was saved.

    Register it: `self.register_buffer(name, tensor)`, with `persistent=False` if it can be computed again.

    References:
        PyTorch documentation, nn.Module.register_buffer.
    """

    code = "IL309"
    name = "unregistered-buffer"
    severity = "warning"
    needs = frozenset({"provenance", "graph", "probe"})
    examples = (
        Example(table_in_an_attribute, finds=("table",), inputs=batch),
        Example(drawn_and_moved_by_hand, finds=("frequencies",), inputs=batch),
        Example(table_in_a_buffer, inputs=batch),
        Example(table_moved_by_hand, inputs=batch),
        Example(scalar_and_index, inputs=batch),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        for item in model.unregistered:
            if item.trainable or not item.reached or item.scalar or item.persistent_state:
                continue
            if item.kind == "buffer" and (item.random or not item.moved):
                harm = (
                    "state_dict() does not save its drawn values" if item.moved else "to() does not move it"
                )
                yield self.finding(
                    item.path,
                    f"takes part in forward, but {item.held} holds its {item.elements} values: {harm}",
                    measured={"registered": 0},
                    expected={"registered": 1},
                    help=f'register it: self.register_buffer("{item.path.rpartition(".")[2]}", …)',
                    site=item.site,
                    severity="note" if item.site is not None and item.site.package is not None else None,
                    locations=[Location(site, what) for site, what in item.places],
                )
