"""IL312 broken-tying."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from initlint import Example, Location, Rule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding, Tensor


def lost_when_materialised() -> nn.Module:
    import torch
    from torch import nn

    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
            self.head.weight = self.embed.weight

    with torch.device("meta"):
        model = Language()
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    return model


def tied_by_memory() -> nn.Module:
    from torch import nn

    model = nn.Module()
    model.embed, model.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
    model.head.weight.data = model.embed.weight.data
    return model


def parameter_of_a_parameter() -> nn.Module:
    from torch import nn

    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
            self.head.weight = nn.Parameter(self.embed.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.embed(x))
            return logits

    return Language()


def tied_by_a_copy() -> nn.Module:
    import copy

    from torch import nn

    model = nn.Module()
    model.embed, model.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
    model.head.weight = copy.deepcopy(model.embed.weight)
    return model


def untied_by_a_copy_of_the_trunk() -> nn.Module:
    import copy

    from torch import nn

    model = nn.Module()
    model.trunk = nn.Sequential(nn.Embedding(16, 8), nn.LayerNorm(8))
    model.head = nn.Linear(8, 16, bias=False)
    model.head.weight = model.trunk.get_parameter("0.weight")
    model.trunk = copy.deepcopy(model.trunk)
    return model


def copied_as_a_whole() -> nn.Module:
    import copy

    from torch import nn

    model = nn.Module()
    model.trunk = nn.Sequential(nn.Embedding(16, 8), nn.LayerNorm(8))
    model.head = nn.Linear(8, 16, bias=False)
    model.head.weight = model.trunk.get_parameter("0.weight")
    return copy.deepcopy(model)


def trunk_of_another_size() -> nn.Module:
    from torch import nn

    model = nn.Module()
    model.trunk = nn.Sequential(nn.Embedding(16, 8), nn.LayerNorm(8))
    model.head = nn.Linear(8, 16, bias=False)
    model.head.weight = model.trunk.get_parameter("0.weight")
    model.trunk = nn.Sequential(nn.Embedding(12, 8), nn.LayerNorm(8))
    return model


def tied() -> nn.Module:
    from torch import nn

    model = nn.Module()
    model.embed, model.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
    model.head.weight = model.embed.weight
    return model


def never_tied() -> nn.Module:
    from torch import nn

    return nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 16, bias=False))


def head_of_another_size() -> nn.Module:
    from torch import nn

    model = nn.Module()
    model.embed, model.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
    model.head.weight = model.embed.weight
    model.head = nn.Linear(8, 3)
    return model


HOW = {
    "constructor": "were one Parameter and are two now",
    "_tied_weights_keys": "are declared in _tied_weights_keys to be one Parameter and are two",
    "tie_weights": "would be one Parameter if the method that ties them were called",
    "memory": "are two Parameters in one memory: each has its own gradient and its own optimizer step",
    "values": "hold the same values, copied from one to the other, in two Parameters",
}


def tokens() -> torch.Tensor:
    import torch

    return torch.randint(0, 16, (4, 6), generator=torch.Generator().manual_seed(0))


class BrokenTying(Rule):
    """Two parameters that were meant to be one.

    Tied weights are one Parameter under two names. `to_empty`, deepcopy, a new Parameter and `.data = `
    leave two: they drift apart from the first step, and the model has more parameters than it was given.

    Tie last, after the model was materialised and initialised: `head.weight = embed.weight`.

    References:
        Press and Wolf, Using the Output Embedding to Improve Language Models, 2017, section 3.
    """

    code = "IL312"
    name = "broken-tying"
    severity = "error"
    needs = frozenset({"provenance"})
    examples = (
        Example(lost_when_materialised, finds=("embed.weight", "head.weight")),
        Example(tied_by_memory, finds=("embed.weight", "head.weight")),
        Example(parameter_of_a_parameter, finds=("embed.weight", "head.weight"), inputs=tokens),
        Example(tied_by_a_copy, finds=("embed.weight", "head.weight")),
        Example(untied_by_a_copy_of_the_trunk, finds=("head.weight", "trunk.0.weight")),
        Example(tied),
        Example(copied_as_a_whole),
        Example(trunk_of_another_size),
        Example(never_tied),
        Example(head_of_another_size),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        for tie in model.ties:
            if not tie.broken or (tie.declared_by == "memory" and _alone(model, tie.names)):
                continue
            first, *others = tie.names
            yield self.finding(
                first,
                f"{first} and {' and '.join(others)} {HOW[tie.declared_by]}",
                measured={"parameters": len(tie.names)},
                expected={"parameters": 1},
                help="assign one Parameter to both, after everything that makes new ones",
                site=tie.site,
                related=others,
                locations=[Location(tie.tied, "tied here")] if tie.tied is not None else (),
            )


def _alone(model: Evidence, names: Sequence[str]) -> bool:
    """A single one of them takes part in the forward: it is stepped as if the others were not there.

    A graph knows their memory by one name; the gradients tell who takes part.
    """
    return sum(name in model.by_name and _takes_part(model.by_name[name]) for name in names) == 1


def _takes_part(parameter: Tensor) -> bool:
    gradient = parameter.gradient
    return parameter.use is not None or (gradient is not None and gradient.scale is not None)
