"""Models for IL406 exploding-gradient."""

from __future__ import annotations

from torch import nn

from initlint import Example
from initlint.testing import normal


def chaotic_tanh_stack() -> nn.Module:
    model = nn.Sequential(*(layer for _ in range(24) for layer in (nn.Linear(64, 64), nn.Tanh())))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=6 / 8)
    return model


def tanh_stack_with_xavier_initialisation() -> nn.Module:
    model = nn.Sequential(*(layer for _ in range(24) for layer in (nn.Linear(64, 64), nn.Tanh())))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight, gain=nn.init.calculate_gain("tanh"))
    return model


examples = (
    Example(
        chaotic_tanh_stack,
        finds=("{2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,42,44,46}.weight",),
        inputs=normal(16, 64),
    ),
    Example(tanh_stack_with_xavier_initialisation, inputs=normal(16, 64)),
)
