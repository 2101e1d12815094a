"""Models for IL208 embedding-scale."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import tokens


def positions_drown_tokens() -> nn.Module:
    class Embed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(50, 32)
            self.positions = nn.Embedding(16, 32)
            self.norm = nn.LayerNorm(32)
            nn.init.normal_(self.tokens.weight, std=0.02)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            positions = self.positions(torch.arange(ids.shape[1]))
            x: torch.Tensor = self.norm(self.tokens(ids) + positions)
            return x

    return Embed()


def tokens_drown_positions() -> nn.Module:
    class Embed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(50, 32)
            self.positions = nn.Embedding(16, 32)
            self.norm = nn.LayerNorm(32)
            nn.init.normal_(self.tokens.weight, std=2.0)
            nn.init.normal_(self.positions.weight, std=0.02)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            positions = self.positions(torch.arange(ids.shape[1]))
            x: torch.Tensor = self.norm(self.tokens(ids) + positions)
            return x

    return Embed()


def tied_head(std: float = 1.0) -> nn.Module:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(50, 64)
            self.norm = nn.LayerNorm(64)
            nn.init.normal_(self.tokens.weight, std=std)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x: torch.Tensor = self.norm(self.tokens(ids))
            return x @ self.tokens.weight.T

    return Tied()


def small_tied_head() -> nn.Module:
    return tied_head(0.02)


def tied_head_scaled_down() -> nn.Module:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(50, 64)
            self.norm = nn.LayerNorm(64)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x: torch.Tensor = self.norm(self.tokens(ids)) * 64**-0.5
            return x @ self.tokens.weight.T

    return Scaled()


def small_positions() -> nn.Module:
    class Embed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(50, 32)
            self.positions = nn.Parameter(torch.randn(1, 16, 32) * 0.02)
            self.norm = nn.LayerNorm(32)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x: torch.Tensor = self.norm(self.tokens(ids) + self.positions[:, : ids.shape[1]])
            return x

    return Embed()


examples = (
    Example(positions_drown_tokens, finds=("positions.weight", "tokens.weight"), inputs=tokens(50, 8, 12)),
    Example(tokens_drown_positions, finds=("tokens.weight", "positions.weight"), inputs=tokens(50, 8, 12)),
    Example(tied_head, finds=("tokens.weight",), inputs=tokens(50, 8, 12)),
    Example(small_tied_head, inputs=tokens(50, 8, 12)),
    Example(tied_head_scaled_down, inputs=tokens(50, 8, 12)),
    Example(small_positions, inputs=tokens(50, 8, 12)),
)
