"""Models for IL102 duplicate-units."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def widened_by_copying() -> nn.Module:
    hidden, readout = nn.Linear(8, 16), nn.Linear(16, 4)
    with torch.no_grad():
        hidden.weight[8:] = hidden.weight[:8]
        hidden.bias[8:] = hidden.bias[:8]
        readout.weight[:, 8:] = readout.weight[:, :8]
    return nn.Sequential(hidden, nn.Tanh(), readout)


def copied_with_random_readout() -> nn.Module:
    hidden = nn.Linear(8, 16)
    with torch.no_grad():
        hidden.weight[8:] = hidden.weight[:8]
    return nn.Sequential(hidden, nn.Tanh(), nn.Linear(16, 4))


examples = (
    Example(widened_by_copying, finds=("0.weight",), inputs=normal(16, 8)),
    Example(copied_with_random_readout, inputs=normal(16, 8)),
)
