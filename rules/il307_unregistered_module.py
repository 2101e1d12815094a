"""IL307 unregistered-module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Example, Location, Rule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding


def layers_in_a_list() -> nn.Module:
    import torch
    from torch import nn

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(8, 8) for _ in range(3)]
            self.head = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = torch.relu(layer(x))
            logits: torch.Tensor = self.head(x)
            return logits

    return Stack()


def layer_in_a_closure() -> nn.Module:
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.Linear(8, 8)

            def branch(x: torch.Tensor) -> torch.Tensor:
                return torch.relu(layer(x))

            self.branch = branch
            self.head = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(x + self.branch(x))
            return logits

    return Residual()


def layers_in_a_module_list() -> nn.Module:
    from torch import nn

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
            self.order = [self.layers[i] for i in (2, 0, 1)]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.order:
                x = layer(x)
            return x

    return Stack()


def frozen_critic_kept_aside() -> nn.Module:
    from torch import nn

    class Perceptual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.critic = [nn.Linear(8, 8).requires_grad_(False)]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            score: torch.Tensor = self.critic[0](self.body(x))
            return score

    return Perceptual()


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class UnregisteredModule(Rule):
    """A trainable module that takes part in forward but is not registered.

    A list, dict, tuple or closure hides what it holds: `parameters()`, `to()`, `state_dict()` and the
    optimizer pass it by. It computes with its initial values for ever and is missing from checkpoints.

    Keep modules in nn.ModuleList or nn.ModuleDict, or assign them to attributes of the module.

    References:
        PyTorch documentation, nn.ModuleList.
    """

    code = "IL307"
    name = "unregistered-module"
    severity = "error"
    needs = frozenset({"provenance", "graph", "probe"})
    examples = (
        Example(layers_in_a_list, finds=("layers.0", "layers.1", "layers.2"), inputs=batch),
        Example(layer_in_a_closure, finds=("branch",), inputs=batch),
        Example(layers_in_a_module_list, inputs=batch),
        Example(frozen_critic_kept_aside, inputs=batch),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        for item in model.unregistered:
            if item.kind != "module" or not item.trainable or not item.reached:
                continue
            yield self.finding(
                item.path,
                f"takes part in forward, but {item.held} holds it: its {len(item.parameters)} parameters "
                f"({item.elements} values) are not in model.parameters()",
                measured={"registered": 0},
                expected={"registered": len(item.parameters)},
                help=f"register it: {item.remedy}",
                site=item.site,
                locations=[Location(site, what) for site, what in item.places],
            )
