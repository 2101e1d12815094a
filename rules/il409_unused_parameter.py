"""IL409 unused-parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Evidence, Example, Finding, Rule

if TYPE_CHECKING:
    import torch
    from torch import nn


def layer_that_forward_forgets() -> nn.Module:
    import torch
    from torch import nn

    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.head(torch.relu(self.first(x)))
            return hidden

    return Forgetful()


def weight_used_without_calling_its_module() -> nn.Module:
    from torch import nn

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projection = nn.Linear(8, 8, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.projection.weight)

    return Functional()


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class UnusedParameter(Rule):
    """A trainable parameter that takes no part in the forward pass.

    It gets no gradient and never changes; under DistributedDataParallel it also stops the first step.

    Use it in forward, or remove it. A parameter of a branch that this input does not reach is fine.
    """

    code = "IL409"
    name = "unused-parameter"
    severity = "warning"
    needs = frozenset({"graph", "probe"})
    examples = (
        Example(layer_that_forward_forgets, finds=("second.weight", "second.bias"), inputs=batch),
        Example(weight_used_without_calling_its_module, inputs=batch),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        for parameter in model.parameters:
            if not parameter.requires_grad or not parameter.elements or parameter.gradient is None:
                continue
            if parameter.use is None and parameter.gradient.scale is None:
                yield self.finding(
                    parameter,
                    "takes no part in the forward pass and gets no gradient",
                    measured={"uses": 0},
                    expected={"uses": "at least 1"},
                    help="use it in forward, or remove it",
                )
