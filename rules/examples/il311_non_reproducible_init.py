"""Models for IL311 non-reproducible-init."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from initlint import Example


def drawn_by_numpy() -> nn.Module:
    model = nn.Linear(8, 8)
    model.weight.data = torch.from_numpy(np.random.randn(8, 8)).float() / 8**0.5
    return model


def drawn_by_python() -> nn.Module:
    model = nn.Linear(8, 8)
    nn.init.constant_(model.bias, random.random())
    return model


def drawn_by_torch() -> nn.Module:
    model = nn.Linear(8, 8)
    model.weight.data = torch.randn(8, 8) / 8**0.5
    return model


def seeded_by_the_model() -> nn.Module:
    model = nn.Linear(8, 8)
    model.weight.data = torch.from_numpy(np.random.default_rng(0).standard_normal((8, 8))).float() / 8**0.5
    return model


examples = (
    Example(drawn_by_numpy, finds=("weight",)),
    Example(drawn_by_python, finds=("bias",)),
    Example(drawn_by_torch),
    Example(seeded_by_the_model),
)
