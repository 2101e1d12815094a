"""Models for IL501 recipe-deviation."""

from __future__ import annotations

from math import log

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def both_lora_factors_random() -> nn.Module:
    class LoRA(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(16, 16).requires_grad_(False)
            self.down = nn.Parameter(torch.randn(4, 16) * 0.1)
            self.up = nn.Parameter(torch.randn(16, 4) * 0.1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            base: torch.Tensor = self.base(x)
            return base + x @ self.down.T @ self.up.T

    return LoRA()


def vectors_on_fixed_matrices(last: float = 0.5) -> nn.Module:
    class VeRA(nn.Module):
        down: torch.Tensor
        up: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(16, 16)
            self.register_buffer("down", torch.randn(4, 16) / 4)
            self.register_buffer("up", torch.randn(16, 4) / 2)
            self.inner = nn.Parameter(torch.full((4,), 0.1))
            self.outer = nn.Parameter(torch.full((16,), last))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            base: torch.Tensor = self.base(x)
            return base + (x @ self.down.T * self.inner) @ self.up.T * self.outer

    model = nn.Sequential(nn.Linear(16, 16), VeRA(), nn.Linear(16, 4))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in ("1.inner", "1.outer"))
    return model


def last_vector_zero() -> nn.Module:
    return vectors_on_fixed_matrices(0.0)


def one_lora_factor_zero() -> nn.Module:
    model = both_lora_factors_random()
    nn.init.zeros_(model.get_parameter("up"))
    return model


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


def depth_scaled(*names: str) -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(32)
            self.gate, self.up = nn.Linear(32, 64), nn.Linear(32, 64)
            self.down = nn.Linear(64, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.norm(x)
            down: torch.Tensor = self.down(nn.functional.silu(self.gate(h)) * self.up(h))
            return x + down

    blocks = [Block() for _ in range(4)]
    for block in blocks:
        for name, layer in block.named_children():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02 / 8**0.5 if name in names else 0.02)
    return nn.Sequential(nn.Linear(16, 32), *blocks)


def depth_scale_on_the_up_projection() -> nn.Module:
    return depth_scaled("up")


def depth_scale_on_the_residual_end() -> nn.Module:
    return depth_scaled("down")


def logit_scale_of_one(value: float = 1.0) -> nn.Module:
    class Contrastive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(16, 8), nn.Linear(16, 8)
            self.logit_scale = nn.Parameter(torch.tensor(value))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = (nn.functional.normalize(f(x), dim=-1) for f in (self.left, self.right))
            return self.logit_scale.exp() * left @ right.T

    return Contrastive()


def logit_scale_of_clip() -> nn.Module:
    return logit_scale_of_one(log(1 / 0.07))


examples = (
    Example(both_lora_factors_random, finds=("up",), severity="warning", inputs=normal(8, 16)),
    Example(
        vectors_on_fixed_matrices, finds=("1.inner", "1.outer"), severity="warning", inputs=normal(8, 16)
    ),
    Example(one_lora_factor_zero, inputs=normal(8, 16)),
    Example(last_vector_zero, inputs=normal(8, 16)),
    Example(
        adaln_zero_in_the_last_layer_only,
        finds=("blocks.{0,1}.modulation.weight",),
        severity="warning",
        inputs=normal(8, 16),
    ),
    Example(adaln_zero_in_the_blocks_only, finds=("modulation.weight",), inputs=normal(8, 16)),
    Example(adaln_zero_everywhere, inputs=normal(8, 16)),
    Example(
        depth_scale_on_the_up_projection,
        finds=("{1..4}.up.weight", "{1..4}.down.weight"),
        severity="warning",
        inputs=normal(8, 16),
    ),
    Example(depth_scale_on_the_residual_end, inputs=normal(8, 16)),
    Example(logit_scale_of_one, finds=("logit_scale",), inputs=normal(8, 16)),
    Example(logit_scale_of_clip, inputs=normal(8, 16)),
)
