"""Models for IL105 non-finite-parameter."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example


def logarithm_of_negative_values() -> nn.Module:
    model = nn.Linear(8, 8)
    model.weight.data.log_()
    return model


def causal_mask() -> nn.Module:
    model = nn.Linear(8, 8)
    model.register_buffer("mask", torch.full((8, 8), float("-inf")).triu(1))
    return model


examples = (
    Example(logarithm_of_negative_values, finds=("weight",)),
    Example(causal_mask),
)
