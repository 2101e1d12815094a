"""IL310 module-created-in-forward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Example, Location, Rule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding


def layer_made_in_forward() -> nn.Module:
    from torch import nn

    class Fresh(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            head = nn.Linear(8, 2)
            logits: torch.Tensor = head(self.body(x))
            return logits

    return Fresh()


def layer_made_at_the_first_call() -> nn.Module:
    from torch import nn

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.head: nn.Module | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.head is None:
                self.head = nn.Linear(x.shape[1], 2)
            logits: torch.Tensor = self.head(self.body(x))
            return logits

    return Late()


def activation_made_in_forward() -> nn.Module:
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(nn.Dropout(0.1)(nn.ReLU()(self.body(x))))
            return logits

    return Classifier()


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class ModuleCreatedInForward(Rule):
    """Trainable parameters that are made during forward.

    The optimizer was given its parameters before: what forward makes is never trained. Made anew at each
    call it is even drawn anew, so that the model gives another answer to the same input every time.

    Make layers in the constructor; where a size is only known from the input, use nn.LazyLinear and the like.

    References:
        PyTorch documentation, nn.modules.lazy.LazyModuleMixin.
    """

    code = "IL310"
    name = "module-created-in-forward"
    severity = "error"
    needs = frozenset({"graph", "probe"})
    examples = (
        Example(layer_made_in_forward, finds=("Linear",), inputs=batch),
        Example(layer_made_at_the_first_call, finds=("Linear",), inputs=batch),
        Example(activation_made_in_forward, inputs=batch),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        for item in model.created_in_forward:
            if item.reached and item.trainable:
                yield self.finding(
                    item.path,
                    f"{item.elements} trainable values were made in the forward of "
                    f"{item.owner or 'the model'} and took part in it",
                    measured={"made in forward": item.elements},
                    expected={"made in forward": 0},
                    help="make it in the constructor and assign it to an attribute",
                    site=item.site,
                    related=[item.owner] if item.owner else (),
                    locations=[Location(item.assigned, "called in forward")]
                    if item.assigned is not None and item.assigned != item.site
                    else (),
                )
