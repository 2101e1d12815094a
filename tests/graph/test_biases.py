"""Which bias belongs to which weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
from listening import evidence
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


def pairs(build: Callable[[], nn.Module], *inputs: torch.Tensor) -> dict[str, str]:
    """Every weight that has a bias, with it; what the one says of the other holds both ways."""
    uses = {t.name: t.use for t in evidence(build, *inputs).parameters if t.use is not None}
    found = {name: use.bias for name, use in uses.items() if use.bias is not None}
    assert {bias: uses[bias].weight for bias in found.values()} == {b: w for w, b in found.items()}
    return found


class ByHand(nn.Module):
    """A product and a shift whose names say nothing, and a second shift behind the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.randn(8, 6))
        self.offset = nn.Parameter(torch.randn(6))
        self.late = nn.Parameter(torch.randn(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ self.theta + self.offset) + self.late


class TwoProducts(nn.Module):
    """One bias, of the second weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(8, 8))
        self.second = nn.Parameter(torch.randn(8, 6))
        self.bias = nn.Parameter(torch.randn(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ self.first) @ self.second + self.bias


def test_the_graph_tells_where_names_do_not() -> None:
    assert pairs(ByHand, torch.randn(4, 8)) == {"theta": "offset"}
    assert pairs(TwoProducts, torch.randn(4, 8)) == {"second": "bias"}


def test_layers_and_normalisations() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), weight_norm(nn.Conv1d(4, 4, 3)))

    assert pairs(build, torch.randn(4, 2, 9)) == {
        "0.weight": "0.bias",
        "1.weight": "1.bias",
        "2.parametrizations.weight.original1": "2.bias",
    }


def test_of_the_biases_of_a_recurrent_layer_the_name_tells_which() -> None:
    class Last(nn.GRU):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x)[0]

    assert pairs(lambda: Last(4, 4), torch.randn(3, 2, 4)) == {
        "weight_ih_l0": "bias_ih_l0",
        "weight_hh_l0": "bias_hh_l0",
    }


def test_the_bias_of_a_single_output_is_told_by_its_name() -> None:
    assert pairs(lambda: nn.Linear(4, 1), torch.randn(3, 4)) == {"weight": "bias"}
