"""Models for IL312 broken-tying."""

from __future__ import annotations

import copy

import torch
from torch import nn

from initlint import Example
from initlint.testing import tokens


def lost_when_materialised() -> nn.Module:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
            self.head.weight = self.embed.weight

    with torch.device("meta"):
        model = Language()
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    return model


def tied_by_memory() -> nn.Module:
    model = nn.Module()
    model.embed, model.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
    model.head.weight.data = model.embed.weight.data
    return model


def parameter_of_a_parameter() -> nn.Module:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
            self.head.weight = nn.Parameter(self.embed.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.embed(x))
            return logits

    return Language()


def tied_by_a_copy() -> nn.Module:
    model = nn.Module()
    model.embed, model.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
    model.head.weight = copy.deepcopy(model.embed.weight)
    return model


def untied_by_a_copy_of_the_trunk() -> nn.Module:
    model = nn.Module()
    model.trunk = nn.Sequential(nn.Embedding(16, 8), nn.LayerNorm(8))
    model.head = nn.Linear(8, 16, bias=False)
    model.head.weight = model.trunk.get_parameter("0.weight")
    model.trunk = copy.deepcopy(model.trunk)
    return model


def copied_as_a_whole() -> nn.Module:
    model = nn.Module()
    model.trunk = nn.Sequential(nn.Embedding(16, 8), nn.LayerNorm(8))
    model.head = nn.Linear(8, 16, bias=False)
    model.head.weight = model.trunk.get_parameter("0.weight")
    return copy.deepcopy(model)


def trunk_of_another_size() -> nn.Module:
    model = nn.Module()
    model.trunk = nn.Sequential(nn.Embedding(16, 8), nn.LayerNorm(8))
    model.head = nn.Linear(8, 16, bias=False)
    model.head.weight = model.trunk.get_parameter("0.weight")
    model.trunk = nn.Sequential(nn.Embedding(12, 8), nn.LayerNorm(8))
    return model


def tied() -> nn.Module:
    model = nn.Module()
    model.embed, model.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
    model.head.weight = model.embed.weight
    return model


def never_tied() -> nn.Module:
    return nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 16, bias=False))


def head_of_another_size() -> nn.Module:
    model = nn.Module()
    model.embed, model.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
    model.head.weight = model.embed.weight
    model.head = nn.Linear(8, 3)
    return model


examples = (
    Example(lost_when_materialised, finds=("embed.weight", "head.weight")),
    Example(tied_by_memory, finds=("embed.weight", "head.weight")),
    Example(parameter_of_a_parameter, finds=("embed.weight", "head.weight"), inputs=tokens(16, 4, 6)),
    Example(tied_by_a_copy, finds=("embed.weight", "head.weight")),
    Example(untied_by_a_copy_of_the_trunk, finds=("trunk.0.weight", "head.weight")),
    Example(tied),
    Example(copied_as_a_whole),
    Example(trunk_of_another_size),
    Example(never_tied),
    Example(head_of_another_size),
)
