"""The row of a lookup table that a padding index names."""

from __future__ import annotations

import torch

from initlint.evidence import ModuleRecord, Padding, Use
from initlint.runtime import LOOKUPS


def padding(tensor: torch.Tensor, owner: ModuleRecord | None, use: Use | None) -> Padding | None:
    """The padding row, told by the lookup itself or by `padding_idx` of the module that holds the table."""
    if tensor.dim() != 2 or tensor.is_meta or tensor.layout is not torch.strided:
        return None
    looked_up = use is not None and (use.role == "lookup" or use.lookup_too)
    row = use.padding if use is not None else None
    if row is None and owner is not None and (looked_up or owner.class_name in LOOKUPS):
        said = owner.settings.get("padding_idx")
        row = said if type(said) is int else None
    if row is None or not -len(tensor) <= row < len(tensor):
        return None
    row %= len(tensor)
    return Padding(row, float(tensor.detach()[row].abs().max()) if tensor.shape[1] else 0.0)
