"""Models for IL301 uninitialized-memory."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example


def reset_never_called() -> nn.Module:
    class Bilinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(4, 4))

        def reset_parameters(self) -> None:
            nn.init.xavier_uniform_(self.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    return Bilinear()


def half_written() -> nn.Module:
    class Memory(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            keys = torch.empty(8, 4)
            keys[:4] = 0.0
            self.register_buffer("keys", keys)

    return Memory()


def buffer_lost_on_meta() -> nn.Module:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("frequencies", 0.5 ** torch.arange(4.0), persistent=False)

    with torch.device("meta"):
        model = Rotary()
    return model.to_empty(device="cpu")


def written_after_empty() -> nn.Module:
    model = nn.Linear(4, 4)
    model.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(4, 4)))
    return model


examples = (
    Example(reset_never_called, finds=("weight",)),
    Example(half_written, finds=("keys",)),
    Example(buffer_lost_on_meta, finds=("frequencies",)),
    Example(written_after_empty),
)
