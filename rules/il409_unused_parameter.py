"""IL409 unused-parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Example, Rule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding


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


def branch_that_the_input_does_not_take() -> nn.Module:
    import torch
    from torch import nn

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.token = nn.Parameter(torch.zeros(8))

        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            if mask is not None:
                x = torch.where(mask, self.token, x)
            hidden: torch.Tensor = self.body(x)
            return hidden

    return Masked()


def detached() -> nn.Module:
    from torch import nn

    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.head(self.first(x).detach())
            return hidden

    return Detached()


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class UnusedParameter(Rule):
    """A trainable parameter that no gradient reaches.

    It never changes; under DistributedDataParallel it also stops the first step. It is a warning where no
    code but the constructor names the parameter, a note where forward names or even uses it in vain.

    Use it in forward, or remove it. A parameter of a branch that this input does not take is fine.

    References:
        PyTorch documentation, DistributedDataParallel, find_unused_parameters.
    """

    code = "IL409"
    name = "unused-parameter"
    severity = "warning"
    needs = frozenset({"graph", "probe"})
    examples = (
        Example(layer_that_forward_forgets, finds=("second.weight", "second.bias"), inputs=batch),
        Example(detached, finds=("first.weight", "first.bias"), inputs=batch),
        Example(weight_used_without_calling_its_module, inputs=batch),
        Example(branch_that_the_input_does_not_take, inputs=batch),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        for parameter in model.parameters:
            gradient, origin = parameter.gradient, parameter.provenance
            if not parameter.requires_grad or not parameter.elements or gradient is None:
                continue
            if gradient.scale is not None or parameter.mention == "elsewhere":
                continue
            if parameter.use is not None:
                what = "takes part in the forward pass, but what it gives reaches no output with its gradient"
            elif parameter.mention == "forward":
                what = "is named in forward, but this run did not reach it"
            else:
                what = "takes no part in the forward pass, and no code outside its constructor names it"
            yield self.finding(
                parameter,
                f"{what}: no gradient arrives",
                measured={"gradients": 0},
                expected={"gradients": 1},
                severity="warning" if parameter.mention == "nowhere" else "note",
                help="use it in forward, or remove it",
                site=origin.construction if parameter.owner_package == "torch" else origin.allocation,
            )
