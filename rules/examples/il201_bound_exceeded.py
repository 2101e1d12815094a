"""Models for IL201 bound-exceeded."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def one_huge_element() -> nn.Module:
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 4))
    with torch.no_grad():
        model.get_parameter("0.weight")[3, 5] = 7.0
    return model


def kaiming_beyond_one_over_root_n() -> nn.Module:
    layer = nn.Linear(32, 64)
    nn.init.kaiming_uniform_(layer.weight)
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(64, 4))


def kaiming_by_fan_in() -> nn.Module:
    return kaiming_beyond_one_over_root_n()


def drawn_by_known_schemes() -> nn.Module:
    first, second, third = nn.Linear(32, 64), nn.Linear(64, 64), nn.Linear(64, 4)
    nn.init.kaiming_normal_(first.weight)
    nn.init.orthogonal_(second.weight)
    nn.init.trunc_normal_(third.weight, std=0.02)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)


def default_layers() -> nn.Module:
    return nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))


examples = (
    Example(one_huge_element, finds=("0.weight",), inputs=normal(16, 32)),
    Example(
        kaiming_beyond_one_over_root_n,
        finds=("0.weight",),
        inputs=normal(16, 32),
        options={"bound": "uniform"},
    ),
    Example(kaiming_by_fan_in, inputs=normal(16, 32)),
    Example(drawn_by_known_schemes, inputs=normal(16, 32)),
    Example(default_layers, inputs=normal(16, 4, 8), options={"bound": "uniform"}),
)
