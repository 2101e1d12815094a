"""Models for IL207 no-op-truncation."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example


def default_bounds_at_a_small_std() -> nn.Module:
    model = nn.Linear(64, 64)
    nn.init.trunc_normal_(model.weight, std=0.02)
    return model


def clamped_far_outside() -> nn.Module:
    model = nn.Linear(64, 64)
    with torch.no_grad():
        model.weight.normal_(0, 0.02).clamp_(-2, 2)
    return model


def clamped_by_a_function() -> nn.Module:
    model = nn.Linear(64, 64)
    nn.init.normal_(model.weight, std=0.02)
    model.weight.data = nn.functional.hardtanh(model.weight.data, -2, 2)
    return model


def clamped_by_extremes() -> nn.Module:
    model = nn.Linear(64, 64)
    nn.init.normal_(model.weight, std=0.02)
    bound = torch.tensor(2.0)
    model.weight.data = torch.min(torch.max(model.weight.data, -bound), bound)
    return model


def clamped_by_extremes_at_two_std() -> nn.Module:
    model = nn.Linear(64, 64)
    nn.init.normal_(model.weight, std=0.02)
    bound = torch.full((64, 64), 0.04)
    model.weight.data = torch.minimum(torch.maximum(model.weight.data, -bound), bound)
    return model


def clamped_at_two_std() -> nn.Module:
    model = nn.Linear(64, 64)
    nn.init.normal_(model.weight, std=0.02)
    model.weight.data = nn.functional.hardtanh(model.weight.data, -0.04, 0.04)
    return model


def bounds_at_two_std() -> nn.Module:
    model = nn.Linear(64, 64)
    nn.init.trunc_normal_(model.weight, std=0.02, a=-0.04, b=0.04)
    return model


def clamped_before_scaling() -> nn.Module:
    model = nn.Linear(64, 64)
    model.weight = nn.Parameter(torch.randn(64, 64).clamp(-2, 2) * 0.02)
    return model


examples = (
    Example(default_bounds_at_a_small_std, finds=("weight",)),
    Example(clamped_far_outside, finds=("weight",)),
    Example(clamped_by_a_function, finds=("weight",)),
    Example(clamped_by_extremes, finds=("weight",)),
    Example(clamped_by_extremes_at_two_std),
    Example(clamped_at_two_std),
    Example(bounds_at_two_std),
    Example(clamped_before_scaling),
)
