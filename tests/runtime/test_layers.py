"""The table of torch.nn classes: what it says is what torch does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from initlint.runtime import LOOKUPS, layer
from initlint.runtime.layers import LAYERS

RANKED = [
    (nn.Conv1d(3, 4, 1), 3),
    (nn.Conv2d(3, 4, 1), 4),
    (nn.ConvTranspose3d(3, 4, 1), 5),
    (nn.LSTM(3, 4), 3),
    (nn.GRUCell(3, 4), 2),
    (nn.BatchNorm2d(3), 4),
    (nn.BatchNorm3d(3), 5),
]


@pytest.mark.parametrize(("module", "rank"), RANKED)
def test_a_batch_of_the_rank_and_width_runs(module: Any, rank: int) -> None:
    row = layer(module)
    assert row.rank == rank
    width = getattr(module, row.width)
    assert width == 3
    module(
        torch.randn(2, 5, 3)
        if row.role == "recurrent" and rank == 3
        else torch.randn(2, 3, *[2] * (rank - 2))
    )


@pytest.mark.parametrize(
    "module", [nn.RNN(3, 5), nn.LSTM(3, 5), nn.GRU(3, 5), nn.RNNCell(3, 5), nn.LSTMCell(3, 5)]
)
def test_gates_are_those_of_the_weights(module: Any) -> None:
    weights = [weight for name, weight in module.named_parameters() if "weight_hh" in name]
    assert [len(weight) for weight in weights] == [5 * layer(module).gates]


@pytest.mark.parametrize(
    ("cls", "row"), [pair for pair in LAYERS.items() if pair[1].operator and not pair[1].role]
)
def test_a_layer_without_weights_is_its_operator(cls: type[nn.Module], row: Any) -> None:
    assert row.operator == "identity" or hasattr(torch.ops.aten, row.operator)


def test_subclasses_are_what_their_nearest_base_is() -> None:
    class Gate(nn.LSTMCell):
        pass

    class Own(nn.RNNBase):
        pass

    assert layer(Gate(2, 2)) == layer(nn.LSTMCell(2, 2))
    assert layer(Own("GRU", 2, 2)) == layer(nn.GRU(2, 2))
    assert layer(Own("RNN_RELU", 2, 2)).operator == layer(nn.RNN(2, 2)).operator == "rnn_tanh"
    assert layer(nn.LazyConv2d(2, 1)) == layer(nn.Conv2d(1, 1, 1))
    assert layer(nn.ReLU6()).operator == "relu6"
    assert layer(nn.SyncBatchNorm(2)).operator == "batch_norm"
    assert layer(parametrizations.weight_norm(nn.Linear(2, 2))).role == "matrix"
    assert layer(nn.Sequential()).operator == layer(None).role == ""


def test_lookups() -> None:
    assert {"Embedding", "EmbeddingBag"} == LOOKUPS
