"""Inputs that a model itself names: Lightning's example_input_array, timm's input_size, dummy_inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from initlint.runtime import attribute, mapped, reordered

BATCH = 2


def hints(model: nn.Module, seed: int) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """What the model says it takes, two samples at least: the hint's name, the arguments and keywords."""
    generator = torch.Generator().manual_seed(seed)
    example = attribute(model, "example_input_array")
    if example is not None:
        args, kwargs = _arguments(example)
        yield "example_input_array", _widened(args, generator), _widened(kwargs, generator)
        yield "example_input_array", args, kwargs
    for name in ("pretrained_cfg", "default_cfg"):
        size = _input_size(attribute(model, name))
        if size is not None:
            yield f"{name} input_size", (torch.randn((BATCH, *size), generator=generator, device="cpu"),), {}
            break
    if isinstance(attribute(model, "main_input_name"), str):
        return  # a transformers model: its configuration says more than its dummy inputs
    dummies = attribute(model, "dummy_inputs")
    if isinstance(dummies, Mapping):
        yield "dummy_inputs", (), dict(dummies)


def _arguments(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    match value:
        case Mapping():
            return (), dict(value)
        case (tuple() as args, Mapping() as kwargs):
            return args, dict(kwargs)
        case tuple():
            return value, {}
    return (value,), {}


def _input_size(config: Any) -> tuple[int, ...] | None:
    size = config.get("input_size") if isinstance(config, Mapping) else attribute(config, "input_size")
    return tuple(size) if isinstance(size, (tuple, list)) and all(isinstance(s, int) for s in size) else None


def _widened(value: Any, generator: torch.Generator) -> Any:
    """Single samples made two: themselves and a reordered copy."""

    def widen(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() < 2 or len(tensor) != 1:
            return tensor
        return torch.cat([tensor, reordered(tensor, generator)])

    return mapped(value, widen)
