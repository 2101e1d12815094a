"""Models for IL106 dtype-underflow."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example


def drawn_in_half_precision() -> nn.Module:
    model = nn.Linear(8, 8, dtype=torch.float16)
    nn.init.normal_(model.weight, std=1e-9)
    return model


def converted_afterwards() -> nn.Module:
    model = nn.LayerNorm(8)
    model.register_buffer("smallest", torch.tensor(1e-8))
    return model.half()


def scaled_down() -> nn.Module:
    model = nn.Module()
    model.scale = nn.Parameter(1e-8 * torch.ones(8, dtype=torch.float16))
    return model


def scaled_after_the_conversion() -> nn.Module:
    model = nn.Linear(8, 8).half()
    with torch.no_grad():
        model.weight.mul_(1e-7)
    return model


def halved_in_half_precision() -> nn.Module:
    model = nn.Linear(8, 8).half()
    with torch.no_grad():
        model.weight.mul_(0.5)
    return model


def zeros_in_half_precision() -> nn.Module:
    model = nn.Linear(8, 8)
    nn.init.zeros_(model.weight)
    return model.half()


def small_in_bfloat16() -> nn.Module:
    model = nn.Linear(8, 8)
    nn.init.normal_(model.weight, std=1e-9)
    return model.to(torch.bfloat16)


def scaled_zeros() -> nn.Module:
    model = nn.Linear(8, 8)
    nn.init.zeros_(model.bias)
    with torch.no_grad():
        model.bias.mul_(0.1)
    return model


examples = (
    Example(drawn_in_half_precision, finds=("weight",)),
    Example(converted_afterwards, finds=("smallest",)),
    Example(scaled_down, finds=("scale",)),
    Example(scaled_after_the_conversion, finds=("weight",)),
    Example(halved_in_half_precision),
    Example(zeros_in_half_precision),
    Example(small_in_bfloat16),
    Example(scaled_zeros),
)
