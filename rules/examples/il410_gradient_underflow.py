"""Models for IL410 gradient-underflow."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example


def small_head_in_half_precision() -> nn.Module:
    head = nn.Linear(32, 4)
    nn.init.normal_(head.weight, std=1e-7)
    return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), head).half()


def half_precision() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)).half()


def single_precision() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))


def batch() -> torch.Tensor:
    return torch.randn(16, 32, generator=torch.Generator().manual_seed(0)).half()


def single() -> torch.Tensor:
    return batch().float()


examples = (
    Example(small_head_in_half_precision, finds=("0.weight", "0.bias"), inputs=batch),
    Example(half_precision, inputs=batch),
    Example(single_precision, inputs=single),
)
