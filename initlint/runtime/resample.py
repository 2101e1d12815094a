"""Batches with their observations in another order or drawn again."""

from __future__ import annotations

from typing import Any

import torch

from initlint.runtime.containers import mapped


def varied(value: Any, name: str, generator: torch.Generator) -> Any:
    """The value with the tensors in it reordered at random; masks, by name or kind, are kept."""
    if "mask" in name.lower():
        return value
    if isinstance(value, dict):
        return {key: varied(item, str(key), generator) for key, item in value.items()}
    return mapped(value, lambda tensor: reordered(tensor, generator))


def reordered(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same values in another order; a dummy of ones or zeros gets noise."""
    if tensor.dtype == torch.bool or tensor.layout != torch.strided or tensor.numel() < 2:
        return tensor
    flat = tensor.detach().reshape(-1)
    if tensor.is_floating_point() and tensor.dim() > 1 and bool((flat == flat[0]).all()):
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64, device="cpu")
        return tensor.detach() + noise.to(tensor)
    order = torch.randperm(flat.numel(), generator=generator, device="cpu")
    return flat[order.to(flat.device)].reshape(tensor.shape)
