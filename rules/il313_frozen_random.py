"""IL313 frozen-random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Example, Rule
from initlint.analysis.frozen import draw, frozen_draws

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding


def frozen_before_it_was_loaded() -> nn.Module:
    import torch
    from torch import nn

    first = nn.Linear(8, 8)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        first.weight.mul_(0.5)
    for parameter in first.parameters():
        parameter.requires_grad = False
    return model


def embedding_frozen_by_default() -> nn.Module:
    import torch
    from torch import nn

    table = torch.randn(16, 8)
    embed: nn.Module = nn.Embedding.from_pretrained(table)  # type: ignore[no-untyped-call]
    return nn.Sequential(embed, nn.Linear(8, 2))


def random_features() -> nn.Module:
    import torch
    from torch import nn

    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frequencies = nn.Parameter(torch.randn(8, 16), requires_grad=False)
            self.head = nn.Linear(16, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(torch.sin(x @ self.frequencies))
            return logits

    return Fourier()


def teacher() -> nn.Module:
    import copy

    from torch import nn

    class Distilled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = nn.Linear(8, 8)
            self.teacher = copy.deepcopy(self.student).requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            distance: torch.Tensor = self.student(x) - self.teacher(x)
            return distance

    return Distilled()


def low_rank_adapter() -> nn.Module:
    import torch
    from torch import nn

    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(8, 8).requires_grad_(False)
            self.down = nn.Parameter(torch.randn(2, 8) / 8)
            self.up = nn.Parameter(torch.zeros(8, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.base(x) + x @ self.down.T @ self.up.T
            return hidden

    return Adapted()


def gated_branch_beside_a_frozen_one() -> nn.Module:
    import torch
    from torch import nn

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(8, 8).requires_grad_(False)
            self.branch = nn.Linear(8, 8)
            self.gate = nn.Parameter(torch.zeros(1))
            self.readout = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.base(x) + self.gate.tanh() * self.branch(x)
            y: torch.Tensor = self.readout(torch.relu(h))
            return y

    return Gated()


def loaded_and_frozen() -> nn.Module:
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].load_state_dict({"weight": torch.eye(8), "bias": torch.zeros(8)})
    model[0].requires_grad_(False)
    return model


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class FrozenRandom(Rule):
    """A parameter that was drawn at random and is not trained.

    What is frozen keeps its values. Random ones were most likely frozen before the pretrained weights were
    loaded, by a test that matches more names than meant, or by `Embedding.from_pretrained`, which freezes.

    Load the weights that are to be kept, or leave requires_grad at True.

    References:
        PyTorch documentation, nn.Embedding.from_pretrained: freeze is True by default.
    """

    code = "IL313"
    name = "frozen-random"
    severity = "warning"
    needs = frozenset({"provenance", "statistics", "graph"})
    examples = (
        Example(frozen_before_it_was_loaded, finds=("0.weight",)),
        Example(embedding_frozen_by_default, finds=("0.weight",)),
        Example(random_features, inputs=batch),
        Example(teacher, inputs=batch),
        Example(low_rank_adapter, inputs=batch),
        Example(gated_branch_beside_a_frozen_one, inputs=batch),
        Example(loaded_and_frozen),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        for parameter, deliberate in frozen_draws(model):
            last = draw(parameter)
            yield self.finding(
                parameter,
                f"was drawn by {last.operation if last else 'a generator'} and does not require a gradient: "
                f"its {parameter.elements} values stay what the draw gave",
                measured={"requires_grad": False},
                expected={"requires_grad": True},
                severity="note" if deliberate else None,
                help="load the values that it is to keep, or leave requires_grad at True",
                site=parameter.provenance.frozen,
            )
