"""Models for IL304 partial-init."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def deeper_recurrent_layer_missed() -> nn.Module:
    model = nn.LSTM(4, 8, num_layers=2)
    nn.init.orthogonal_(model.get_parameter("weight_hh_l0"))
    return model


def first_of_several_cells() -> nn.Module:
    cells = nn.ModuleList(nn.LSTMCell(8, 8) for _ in range(3))
    nn.init.orthogonal_(cells.get_parameter("0.weight_hh"))
    return cells


def coupling_blocks(*closed: int) -> nn.Module:
    flows = nn.ModuleList(
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8, bias=False)) for _ in range(4)
    )
    for index in closed:
        nn.init.zeros_(flows.get_parameter(f"{index}.2.weight"))
    return flows


def first_of_four_blocks_closed() -> nn.Module:
    return coupling_blocks(0)


def all_blocks_closed() -> nn.Module:
    return coupling_blocks(0, 1, 2, 3)


def last_block_closed() -> nn.Module:
    return coupling_blocks(3)


def two_encodings(*written: str) -> nn.Module:
    class Encoding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bands = nn.Parameter(torch.zeros(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x[..., None] * self.bands).sin().flatten(-2)

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place, self.view, self.color = Encoding(), Encoding(), nn.Linear(64, 3)
            with torch.no_grad():
                for name in written:
                    self.get_parameter(f"{name}.bands").copy_(2.0 ** torch.arange(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.color(torch.cat([self.place(x), self.view(x)], -1))
            return y

    return Field()


def transformers(*identities: str) -> nn.Module:
    class Transformer(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.look, self.give = nn.Linear(size, 16), nn.Linear(16, size * size)
            self.size = size

        def begin(self) -> None:
            nn.init.zeros_(self.give.weight)
            self.give.bias.data.copy_(torch.eye(self.size).flatten())

    model = nn.Module()
    model.points, model.features = Transformer(3), Transformer(8)
    for name in identities:
        part = model.get_submodule(name)
        assert isinstance(part, Transformer)
        part.begin()
    return model


def identity_of_one_transformer() -> nn.Module:
    return transformers("points")


def identity_of_both_transformers() -> nn.Module:
    return transformers("points", "features")


def placeholder_of_one_encoding_left() -> nn.Module:
    return two_encodings("place")


def both_encodings_written() -> nn.Module:
    return two_encodings("place", "view")


def class_token_left_at_zero() -> nn.Module:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.class_token = nn.Parameter(torch.zeros(8))
            self.mask_token = nn.Parameter(torch.zeros(8))
            nn.init.normal_(self.mask_token, std=0.02)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x + self.mask_token, x + self.class_token])

    return Tokens()


def layer_made_after_the_initialiser_ran() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 8)
            self.apply(self.draw)
            self.fc3 = nn.Linear(8, 8)

        def draw(self, module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    return Net()


def weight_normalised_after_the_initialiser_ran() -> nn.Module:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 8)
            self.apply(self.draw)
            self.last = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))

        def draw(self, module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)

    return Head()


def last_layer_zeroed() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8))
    nn.init.zeros_(model.get_parameter("4.weight"))
    return model


examples = (
    Example(deeper_recurrent_layer_missed, finds=("weight_hh_l1",)),
    Example(first_of_several_cells, finds=("{1,2}.weight_hh",)),
    Example(first_of_four_blocks_closed, finds=("{1..3}.2.weight",), severity="note"),
    Example(
        placeholder_of_one_encoding_left,
        finds=("view.bands", "place.bands"),
        severity="note",
        inputs=normal(4, 8),
    ),
    Example(identity_of_one_transformer, finds=("features.give.weight",), severity="note"),
    Example(layer_made_after_the_initialiser_ran, finds=("fc3.weight",)),
    Example(weight_normalised_after_the_initialiser_ran),
    Example(last_layer_zeroed),
    Example(all_blocks_closed),
    Example(last_block_closed),
    Example(both_encodings_written, inputs=normal(4, 8)),
    Example(identity_of_both_transformers),
    Example(class_token_left_at_zero, inputs=normal(4, 8)),
)
