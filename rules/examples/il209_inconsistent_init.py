"""Models for IL209 inconsistent-init."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def one_block_left_out() -> nn.Module:
    layers = [nn.Linear(64, 64) for _ in range(5)]
    for layer in layers[1:]:
        nn.init.normal_(layer.weight, std=0.02)
    return nn.Sequential(*layers)


def one_direction_of_four() -> nn.Module:
    model = nn.LSTM(8, 16, num_layers=2, bidirectional=True, batch_first=True)
    with torch.no_grad():
        model.get_parameter("bias_hh_l0")[16:32] = 3.0
    return model


def one_branch_far_smaller() -> nn.Module:
    branches = [nn.Linear(64, 64) for _ in range(4)]
    for i, branch in enumerate(branches):
        nn.init.normal_(branch.weight, std=0.00001 if i == 2 else 0.02)
    return nn.Sequential(*branches)


def scaled_by_depth() -> nn.Module:
    layers = [nn.Linear(64, 64) for _ in range(6)]
    for i, layer in enumerate(layers):
        nn.init.normal_(layer.weight, std=0.1 / (i + 1) ** 0.5)
    return nn.Sequential(*layers)


def zero_last_layer() -> nn.Module:
    layers = [nn.Linear(64, 64) for _ in range(3)]
    nn.init.zeros_(layers[-1].weight)
    return nn.Sequential(*layers)


def biases_of_two_kinds() -> nn.Module:
    layers = [nn.Linear(64, 64) for _ in range(3)]
    for layer in layers[:2]:
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


examples = (
    Example(one_block_left_out, finds=("0.weight",), inputs=normal(4, 64)),
    Example(
        one_direction_of_four,
        finds=("bias_hh_l0_reverse", "bias_hh_l1", "bias_hh_l1_reverse"),
        inputs=normal(4, 6, 8),
    ),
    Example(one_branch_far_smaller, finds=("2.weight",)),
    Example(scaled_by_depth, inputs=normal(4, 64)),
    Example(zero_last_layer, inputs=normal(4, 64)),
    Example(biases_of_two_kinds, inputs=normal(4, 64)),
)
