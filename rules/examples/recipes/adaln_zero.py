"""adaLN-Zero: what makes the gates of residual branches starts at zero."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def adaln_zero_in_the_last_layer_only() -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(16, elementwise_affine=False)
            self.layer = nn.Linear(16, 16)
            self.modulation = nn.Linear(16, 48)

        def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            scale, shift, gate = self.modulation(c).chunk(3, -1)
            changed: torch.Tensor = gate * self.layer(self.norm(x) * (1 + scale) + shift)
            return x + changed

    class Diffusion(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.condition = nn.Linear(16, 16), nn.Linear(16, 16)
            self.blocks = nn.ModuleList(Block() for _ in range(2))
            self.norm = nn.LayerNorm(16, elementwise_affine=False)
            self.modulation = nn.Linear(16, 32)
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x, c = self.embedding(x), self.condition(x).relu()
            for block in self.blocks:
                x = block(x, c)
            scale, shift = self.modulation(c).chunk(2, -1)
            final: torch.Tensor = self.norm(x) * (1 + scale) + shift
            return final

    return Diffusion()


def adaln_zero_in_the_blocks_only() -> nn.Module:
    model = adaln_zero_everywhere()
    nn.init.xavier_uniform_(model.get_parameter("modulation.weight"))
    return model


def adaln_zero_everywhere() -> nn.Module:
    model = adaln_zero_in_the_last_layer_only()
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.out_features == 48:
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return model


examples = (
    Example(
        adaln_zero_in_the_last_layer_only,
        finds=("blocks.{0,1}.modulation.weight",),
        severity="warning",
        inputs=normal(8, 16),
    ),
    Example(adaln_zero_in_the_blocks_only, finds=("modulation.weight",), inputs=normal(8, 16)),
    Example(adaln_zero_everywhere, inputs=normal(8, 16)),
)
