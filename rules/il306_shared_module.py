"""IL306 shared-module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Example, Location, Rule
from initlint.analysis.shared_modules import mixed_statistics, shared

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding


def list_times_three() -> nn.Module:
    from torch import nn

    return nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.ReLU())] * 3, nn.Linear(8, 2))


def default_argument() -> nn.Module:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, norm: nn.Module = nn.LayerNorm(8)) -> None:  # noqa: B008
            super().__init__()
            self.norm, self.body = norm, nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.relu(self.body(self.norm(x)))

    return nn.Sequential(Block(), Block(), Block())


def decoder_made_of_the_encoders_layers(*, whole: bool = False) -> nn.Module:
    from torch import nn

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


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


def one_module_in_a_loop() -> nn.Module:
    import torch
    from torch import nn

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
    from torch import nn

    activation, dropout = nn.ReLU(), nn.Dropout(0.1)
    return nn.Sequential(nn.Linear(8, 8), activation, dropout, nn.Linear(8, 8), activation, dropout)


def part_handed_to_every_block() -> nn.Module:
    from torch import nn

    class Block(nn.Module):
        def __init__(self, position: nn.Module, scale: nn.Module) -> None:
            super().__init__()
            self.position, self.scale, self.body = position, scale, nn.Linear(8, 8)

    position, scale = nn.Linear(8, 8), nn.Linear(8, 8)
    return nn.Sequential(*(Block(position, scale) for _ in range(3)))


def embedding_of_encoder_and_decoder() -> nn.Module:
    from torch import nn

    class Half(nn.Module):
        def __init__(self, embed: nn.Embedding) -> None:
            super().__init__()
            self.embed, self.body = embed, nn.Linear(8, 8)

    model, embed = nn.Module(), nn.Embedding(16, 8)
    model.encoder, model.decoder = Half(embed), Half(embed)
    return model


def weight_tied_to_its_neighbour() -> nn.Module:
    from torch import nn

    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), second)


class SharedModule(Rule):
    """One module that stands at several positions of a list, or is a default argument's.

    `[block] * n` holds one block n times, and the default of an argument is made once for all calls. The
    positions then have the same weights at every step: n layers with the parameters of one. Attributes that
    hold one module, each under a name of its own, are a note. A BatchNorm that several layers share, which
    share no weights, estimates a mixture of their signals, and normalises none of them when it evaluates.

    Make each in a comprehension: `[Block() for _ in range(n)]`. Where one set of weights is meant, call one
    module in a loop, so that the code says so.

    References:
        Lan et al., ALBERT, 2020, section 3.1: sharing across layers, on purpose.
    """

    code = "IL306"
    name = "shared-module"
    severity = "warning"
    needs = frozenset({"provenance"})
    examples = (
        Example(list_times_three, finds=("0", "1", "2")),
        Example(default_argument, finds=("0.norm", "1.norm", "2.norm")),
        Example(decoder_made_of_the_encoders_layers, finds=("encode.1", "decode.1"), inputs=batch),
        Example(one_stage_under_two_names, inputs=batch),
        Example(one_module_in_a_loop),
        Example(one_activation_everywhere),
        Example(part_handed_to_every_block),
        Example(embedding_of_encoder_and_decoder),
        Example(weight_tied_to_its_neighbour),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        told: set[str] = set()
        for item in shared(model):
            if not item.member and item.default_of is None:
                continue
            made, put = item.record.construction, item.record.registration
            site = made if item.default_of is not None else put or made
            source = "a default argument" if item.default_of is not None else "one object"
            told.update(item.paths)
            yield self.finding(
                item.paths[0],
                f"the {len(item.paths)} positions {item.paths[0]} … {item.paths[-1]} hold the same "
                f"{item.record.class_name}, {source}: {item.elements} trainable values in all",
                measured={"modules": 1},
                expected={"modules": len(item.paths)},
                severity="note"
                if item.default_of is None and (item.named or _elementwise(model, item.paths[0]))
                else None,
                help="make a module for each position: [Block() for _ in range(n)]",
                site=site,
                related=item.paths[1:],
                locations=[Location(made, "made here")] if made is not None and made != site else (),
            )
        for record in mixed_statistics(model):
            if told.isdisjoint(record.paths):
                first, *others = record.paths
                yield self.finding(
                    record,
                    f"{first} and {' and '.join(others)} are one {record.class_name} behind different "
                    "layers: its running statistics mix their signals",
                    measured={"modules": 1},
                    expected={"modules": len(record.paths)},
                    help="make a normalisation for each of the layers",
                    related=others,
                    locations=[Location(record.registration, "put in its place here")]
                    if record.registration is not None
                    else (),
                )


def _elementwise(model: Evidence, path: str) -> bool:
    """The module has vectors only, and is no normalisation: an activation with parameters of its own."""
    inside = [t for t in model.parameters if f"{t.owner}.".startswith(f"{path}.")]
    vectors = all(t.elements == max(t.shape, default=1) for t in inside)
    return vectors and "norm" not in model.modules_by_path[path].class_name.lower()
