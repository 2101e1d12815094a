"""IL308 unregistered-parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Example, Location, Rule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding


def scaled_after_it_was_made() -> nn.Module:
    import torch
    from torch import nn

    class Projection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.weight = nn.Parameter(torch.randn(8, 4)) * 0.1

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            projected: torch.Tensor = self.body(x) @ self.weight
            return projected

    return Projection()


def parameters_in_a_dict() -> nn.Module:
    import torch
    from torch import nn

    class Relations(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.gates = {name: nn.Parameter(torch.ones(8)) for name in ("left", "right")}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.body(x)
            return hidden * self.gates["left"] + x * self.gates["right"]

    return Relations()


def parameters_in_a_parameter_dict() -> nn.Module:
    import torch
    from torch import nn

    class Relations(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.gates = nn.ParameterDict({name: torch.ones(8) for name in ("left", "right")})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.body(x)
            mixed: torch.Tensor = hidden * self.gates["left"] + x * self.gates["right"]
            return mixed

    return Relations()


def weight_computed_from_parameters() -> nn.Module:
    from torch import nn

    return nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 2))


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class UnregisteredParameter(Rule):
    """A tensor that requires a gradient and takes part in forward, but is not registered.

    nn.Module registers an nn.Parameter that is assigned to an attribute, and nothing else. A parameter
    in a plain container is hidden; so is the product of one: `nn.Parameter(w) * 0.1` and
    `nn.Parameter(w).to(device)` are tensors computed from a parameter that nobody keeps.

    Assign the nn.Parameter itself, with its final values, or use nn.ParameterList or nn.ParameterDict.

    References:
        PyTorch documentation, nn.Parameter and nn.ParameterDict.
    """

    code = "IL308"
    name = "unregistered-parameter"
    severity = "error"
    needs = frozenset({"provenance", "graph", "probe"})
    examples = (
        Example(scaled_after_it_was_made, finds=("weight",), inputs=batch),
        Example(parameters_in_a_dict, finds=("gates.left", "gates.right"), inputs=batch),
        Example(parameters_in_a_parameter_dict, inputs=batch),
        Example(weight_computed_from_parameters, inputs=batch),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        for item in model.unregistered:
            if item.kind != "parameter" or not item.trainable or not item.reached:
                continue
            yield self.finding(
                item.path,
                f"requires a gradient and takes part in forward, but {item.held} holds it: "
                f"its {item.elements} values are not in model.parameters()",
                measured={"registered": 0},
                expected={"registered": 1},
                help=f"register it: {item.remedy}",
                site=item.site,
                locations=[Location(site, what) for site, what in item.places],
            )
