"""A small image classifier whose loss does not go down: four mistakes in how it is initialised.

Run `initlint examples/broken.py:build`.
"""

from __future__ import annotations

import torch
from torch import nn

example_inputs = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.zeros(width))
        nn.init.zeros_(self.mix.weight)  # zero times zero: neither ever gets a gradient
        nn.init.zeros_(self.mix.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        scores = self.query(tokens) @ self.key(tokens).transpose(1, 2) / tokens.shape[-1] ** 0.5
        return tokens + self.scale * self.mix(scores.softmax(-1) @ self.value(tokens))


class Classifier(nn.Module):
    def __init__(self, width: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, kernel_size=4, stride=4)
        self.attention = Attention(width)
        self.hidden = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.gate = nn.Linear(width, width)  # never called
        self.head = nn.Linear(width, classes)
        self.init_weights()

    def init_weights(self) -> None:
        nn.init.normal_(self.stem.weight)  # std 1, where 3·4·4 inputs call for about 0.1
        for layer in (self.hidden, self.narrow, self.head):
            nn.init.constant_(layer.weight, 0.01)  # all units of a layer start equal, and stay equal
            nn.init.zeros_(layer.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        tokens = self.attention(tokens)
        hidden = torch.relu(self.narrow(torch.relu(self.hidden(tokens))))
        return self.head(hidden.mean(1))


def build() -> nn.Module:
    return Classifier()
