"""A model made of a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class Model(nn.Module):
    """Calls a function as its forward; holds the modules and tensors given by name."""

    def __init__(self, forward: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        self.function = forward
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)
