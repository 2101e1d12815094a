"""What a model is called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from initlint.runtime.containers import leaves, mapped


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of one forward call, and how to speak of them: "float32[2, 3, 224, 224], inferred"."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    source: Literal["given", "hint", "inferred", "none"] = "given"
    text: str = ""

    def __post_init__(self) -> None:
        """Tensors that another graph made go in cut from it: a backward must not run into its modules."""
        if any(not tensor.is_leaf for tensor in leaves((self.args, self.kwargs))):
            object.__setattr__(self, "args", mapped(self.args, _cut, torch.Tensor))
            object.__setattr__(self, "kwargs", mapped(self.kwargs, _cut, torch.Tensor))


def _cut(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.is_leaf else tensor.detach().requires_grad_(tensor.requires_grad)
