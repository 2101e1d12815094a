"""Models for IL304 partial-init."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def suffix_compared_with_full_names() -> nn.Module:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.proj = nn.Linear(8, 16), nn.Linear(16, 8)

    model = nn.Sequential(Residual(), Residual())

    def init_weights() -> None:
        for name, parameter in model.named_parameters():
            if name == "proj.weight":
                nn.init.normal_(parameter, std=0.01)

    init_weights()
    return model


def transposed_convolutions_missed() -> nn.Module:
    def init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d):
            nn.init.normal_(module.weight, std=0.01)

    return nn.Sequential(nn.ConvTranspose1d(4, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 4, 3)).apply(
        init_weights
    )


def flag_misspelled() -> nn.Module:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zero_init_residual = True
            self.proj = nn.Linear(8, 8)

    def init_weights(module: nn.Module) -> None:
        if hasattr(module, "zero_init_residuals"):
            nn.init.zeros_(module.get_submodule("proj").get_parameter("weight"))

    return nn.Sequential(Residual(), Residual()).apply(init_weights)


def prefix_held_by_the_class() -> nn.Module:
    class Residual(nn.Module):
        branch_end = "branch_out"

        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.ModuleDict({"fc": nn.Linear(8, 16), "out": nn.Linear(16, 8)})
            for name, module in self.named_modules():
                if isinstance(module, nn.Linear):
                    std = 0.02
                    if name.startswith(self.branch_end):
                        std = 0.001
                    nn.init.normal_(module.weight, std=std)

    return Residual()


def scale_by_a_flag_that_no_layer_has() -> nn.Module:
    class Perceptron(nn.Module):
        flag = "zero_start"

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(8, 16), nn.Linear(16, 8)
            for module in self.children():
                std = 0.0 if hasattr(module, self.flag) else 0.02
                nn.init.normal_(module.get_parameter("weight"), std=std)

    return Perceptron()


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


def initialiser_never_called() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 8)

        def _init_weights(self) -> None:
            nn.init.normal_(self.fc1.weight, std=0.02)
            nn.init.normal_(self.fc2.weight, std=0.02)

    return Net()


def helper_knows_more_layers_than_there_are() -> nn.Module:
    def init_weights(module: nn.Module) -> None:
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)

    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)).apply(init_weights)


def special_name_absent() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    def init_weights() -> None:
        for name, parameter in model.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.01)
            elif name.endswith("weight"):
                nn.init.normal_(parameter, std=0.02)

    init_weights()
    return model


def last_layer_zeroed() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8))
    nn.init.zeros_(model.get_parameter("4.weight"))
    return model


examples = (
    Example(suffix_compared_with_full_names, finds=("{0,1}.proj.weight",)),
    Example(transposed_convolutions_missed, finds=("{0,2}",)),
    Example(flag_misspelled, finds=("{0,1}",)),
    Example(prefix_held_by_the_class, finds=("branch.out",)),
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
    Example(initialiser_never_called, finds=("fc1.weight", "fc2.weight")),
    Example(weight_normalised_after_the_initialiser_ran),
    Example(helper_knows_more_layers_than_there_are),
    Example(special_name_absent),
    Example(last_layer_zeroed),
    Example(scale_by_a_flag_that_no_layer_has),
    Example(all_blocks_closed),
    Example(last_block_closed),
    Example(both_encodings_written, inputs=normal(4, 8)),
    Example(identity_of_both_transformers),
    Example(class_token_left_at_zero, inputs=normal(4, 8)),
)
