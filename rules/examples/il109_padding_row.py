"""Models for IL109 padding-row."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example


def drawn_over_the_padding() -> nn.Module:
    model = nn.Embedding(16, 8, padding_idx=0)
    nn.init.normal_(model.weight, std=0.02)
    return model


def zeroed_again() -> nn.Module:
    model = nn.Embedding(16, 8, padding_idx=3)
    nn.init.normal_(model.weight, std=0.02)
    with torch.no_grad():
        model.weight[3].fill_(0)
    return model


def untouched() -> nn.Module:
    return nn.EmbeddingBag(16, 8, padding_idx=15)


examples = (
    Example(drawn_over_the_padding, finds=("weight",)),
    Example(zeroed_again),
    Example(untouched),
)
