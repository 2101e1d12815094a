"""Models for IL306 shared-module."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def list_times_three() -> nn.Module:
    return nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.ReLU())] * 3, nn.Linear(8, 2))


def default_argument() -> nn.Module:
    class Block(nn.Module):
        def __init__(self, norm: nn.Module = nn.LayerNorm(8)) -> None:  # noqa: B008
            super().__init__()
            self.norm, self.body = norm, nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.relu(self.body(self.norm(x)))

    return nn.Sequential(Block(), Block(), Block())


def decoder_made_of_the_encoders_layers(*, whole: bool = False) -> nn.Module:
    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()]
            self.encode = nn.Sequential(*layers)
            if not whole:
                layers[0] = nn.Linear(8, 8)
            self.decode = nn.Sequential(*layers)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.decode(self.encode(x))
            return y

    return Autoencoder()


def one_stage_under_two_names() -> nn.Module:
    return decoder_made_of_the_encoders_layers(whole=True)


def one_module_in_a_loop() -> nn.Module:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(3):
                x = torch.tanh(self.block(x))
            logits: torch.Tensor = self.head(x)
            return logits

    return Recurrent()


def one_activation_everywhere() -> nn.Module:
    activation, dropout = nn.ReLU(), nn.Dropout(0.1)
    return nn.Sequential(nn.Linear(8, 8), activation, dropout, nn.Linear(8, 8), activation, dropout)


def part_handed_to_every_block() -> nn.Module:
    class Block(nn.Module):
        def __init__(self, position: nn.Module, scale: nn.Module) -> None:
            super().__init__()
            self.position, self.scale, self.body = position, scale, nn.Linear(8, 8)

    position, scale = nn.Linear(8, 8), nn.Linear(8, 8)
    return nn.Sequential(*(Block(position, scale) for _ in range(3)))


def embedding_of_encoder_and_decoder() -> nn.Module:
    class Half(nn.Module):
        def __init__(self, embed: nn.Embedding) -> None:
            super().__init__()
            self.embed, self.body = embed, nn.Linear(8, 8)

    model, embed = nn.Module(), nn.Embedding(16, 8)
    model.encoder, model.decoder = Half(embed), Half(embed)
    return model


def weight_tied_to_its_neighbour() -> nn.Module:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), second)


examples = (
    Example(list_times_three, finds=("{0..2}",)),
    Example(default_argument, finds=("{0..2}.norm",)),
    Example(decoder_made_of_the_encoders_layers, finds=("encode.1", "decode.1"), inputs=normal(16, 8)),
    Example(one_stage_under_two_names, inputs=normal(16, 8)),
    Example(one_module_in_a_loop),
    Example(one_activation_everywhere),
    Example(part_handed_to_every_block),
    Example(embedding_of_encoder_and_decoder),
    Example(weight_tied_to_its_neighbour),
)
