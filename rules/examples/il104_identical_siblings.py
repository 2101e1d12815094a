"""Models for IL104 identical-siblings."""

from __future__ import annotations

import copy

import torch
from torch import nn

from initlint import Example


def cloned_encoder_layers() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


def seeded_in_every_layer() -> nn.Module:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            self.weight = nn.Parameter(torch.randn(8, 8, generator=generator) / 8**0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    return nn.Sequential(Dense(), nn.ReLU(), Dense())


def seeded_by_the_factory() -> nn.Module:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

    return nn.ModuleList([make(), make()])


def repeated_expert() -> nn.Module:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8).repeat(4, 1, 1) / 8**0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum("bi,eio->beo", x, self.weight)

    return Experts()


def drawn_again_after_cloning() -> nn.Module:
    model = cloned_encoder_layers()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return model


def frozen_target_network() -> nn.Module:
    model = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
    model[1] = copy.deepcopy(model[0]).requires_grad_(False)
    return model


def same_table_in_every_layer() -> nn.Module:
    class Scan(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decay = nn.Parameter(torch.arange(1.0, 17).repeat(8, 1).log())
            self.project = nn.Linear(16, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.project(x @ self.decay)
            return y

    return nn.Sequential(Scan(), Scan())


def grids_written_value_by_value() -> nn.Module:
    layers = [nn.Linear(3, 4) for _ in range(2)]
    for layer in layers:
        for i in range(4):
            for j in range(3):
                layer.weight.data[i, j] = i - j / 2
    return nn.Sequential(nn.Linear(8, 3), layers[0], nn.Linear(4, 3), layers[1])


examples = (
    Example(
        cloned_encoder_layers,
        finds=(
            "layers.{0..2}.self_attn.in_proj_weight",
            "layers.{0..2}.self_attn.out_proj.weight",
            "layers.{0..2}.linear1.weight",
            "layers.{0..2}.linear2.weight",
        ),
    ),
    Example(seeded_in_every_layer, finds=("{0,2}.weight",)),
    Example(seeded_by_the_factory, finds=("{0,1}.{0,2}.weight",)),
    Example(repeated_expert, finds=("weight",)),
    Example(drawn_again_after_cloning),
    Example(frozen_target_network),
    Example(same_table_in_every_layer),
    Example(grids_written_value_by_value),
)
