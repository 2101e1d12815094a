"""Models for IL405 vanishing-gradient."""

from __future__ import annotations

from torch import nn

from initlint import Example
from initlint.testing import normal, tokens


def stack_of_sigmoids() -> nn.Module:
    hidden = [layer for _ in range(8) for layer in (nn.Linear(32, 32), nn.Sigmoid())]
    return nn.Sequential(*hidden, nn.Linear(32, 4))


def stack_with_he_initialisation() -> nn.Module:
    hidden = [layer for _ in range(8) for layer in (nn.Linear(32, 32), nn.ReLU())]
    for layer in hidden:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(*hidden, nn.Linear(32, 4))


def small_embedding_before_a_norm() -> nn.Module:
    table = nn.Embedding(100, 32)
    nn.init.normal_(table.weight, std=0.02)
    hidden = [layer for _ in range(4) for layer in (nn.LayerNorm(32), nn.Linear(32, 32), nn.GELU())]
    return nn.Sequential(table, *hidden, nn.Linear(32, 4))


examples = (
    Example(stack_of_sigmoids, finds=("{2,4,6,8,10,12,14,16}.weight",), inputs=normal(16, 32)),
    Example(stack_with_he_initialisation, inputs=normal(16, 32)),
    Example(small_embedding_before_a_norm, inputs=tokens(100, 16, 6)),
)
