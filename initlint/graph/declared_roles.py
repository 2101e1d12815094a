"""What a tensor is for by its place in a torch.nn layer, where no graph tells it."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.evidence import Use
from initlint.runtime import Layer, attribute, layer

_BIASED = frozenset({"matrix", "kernel", "recurrent"})


def declared_uses(model: nn.Module) -> dict[str, Use]:
    """The declared use of every parameter and floating-point buffer that has one, by first name."""
    uses: dict[str, Use] = {}
    seen: set[int] = set()
    for path, module in nn.Module.named_modules(model):
        for local, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            use = declared_use(module, local, tensor, path)
            if use is not None:
                uses[f"{path}.{local}".lstrip(".")] = use
        _parametrized(path, module, uses)
    return uses


def declared_use(owner: nn.Module, local: str, tensor: torch.Tensor, path: str = "") -> Use | None:
    """Role, fan-in and axes of `owner`'s tensor `local`; None for classes outside torch.nn."""
    if is_lazy(tensor) or not tensor.is_floating_point():
        return None
    shape = tuple(tensor.shape)
    facts = _facts(owner, local, shape)
    if facts is None:
        return None
    return Use(operation="", module=path, **facts)


def _facts(owner: Any, local: str, shape: tuple[int, ...]) -> dict[str, Any] | None:
    known = layer(owner)
    if "bias" in local and known.role in _BIASED:
        return {"role": "table" if local in ("bias_k", "bias_v") else "shift", "parts": known.gates}
    local = {"weight_v": "weight", "weight_orig": "weight"}.get(local, local)
    match known.role, known.operator:
        case "matrix", "linear" if local == "weight" and len(shape) == 2:
            return _matrix(shape)
        case "matrix", "bilinear" if local == "weight":
            return {**_matrix((shape[0], shape[1] * shape[2])), "contracted": (1, 2)}
        case "matrix", "attention" if local.endswith("proj_weight"):
            parts = 3 if local == "in_proj_weight" else 1
            return {**_matrix(shape), "parts": parts, "activation": known.activation}
        case "kernel", operator if local == "weight":
            return convolution(shape, owner.groups, owner.stride, operator == "convolution_transpose")
        case "lookup", _ if local == "weight":
            return {"role": "lookup", "outputs": (1,)}
        case "recurrent", _ if local.startswith("weight_"):
            return _recurrent(owner, known, local, shape)
        case "gain", _:
            return {"role": {"weight": "gain", "bias": "shift"}.get(local, "state")}
        case "scalar", _ if local == "weight":
            return {"role": "scalar"}
    return None


def _matrix(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"role": "matrix", "fan_in": shape[1], "fan_out": shape[0], "contracted": (1,), "outputs": (0,)}


def convolution(
    shape: tuple[int, ...], groups: int, stride: tuple[int, ...], transposed: bool
) -> dict[str, Any]:
    """Fans and axes of a kernel.

    A fan is the number of terms really summed: a kernel of size k at stride s spreads (transposed: gathers)
    each position k/s times on average, at least once.
    """
    kernel = shape[2:]
    steps = (*stride, *(1,) * len(kernel)) if len(stride) != 1 else stride * len(kernel)
    overlap = prod(max(1.0, k / s) for k, s in zip(kernel, steps, strict=False))
    spatial = tuple(range(2, len(shape)))
    if transposed:
        fans = round(shape[0] // groups * overlap), shape[1] * prod(kernel)
    else:
        fans = shape[1] * prod(kernel), round(shape[0] // groups * overlap)
    return {
        "role": "kernel",
        "fan_in": fans[0],
        "fan_out": fans[1],
        "contracted": (0 if transposed else 1, *spatial),
        "outputs": (1 if transposed else 0,),
        "groups": groups,
        "transposed": transposed,
    }


def _recurrent(owner: nn.Module, known: Layer, local: str, shape: tuple[int, ...]) -> dict[str, Any]:
    matrix = {**_matrix(shape), "role": "recurrent"} if len(shape) == 2 else {"role": "recurrent"}
    if local.startswith("weight_hr"):  # the projection of an LSTM's output
        return {**matrix, "parts": 1, "activation": "none"}
    activation = known.activation or None
    if activation == "tanh":
        mode = str(getattr(owner, "mode", "")).partition("_")[2]  # RNN_TANH, RNN_RELU
        activation = (mode or str(getattr(owner, "nonlinearity", activation))).lower()
    return {**matrix, "parts": known.gates, "activation": activation}


def _parametrized(path: str, module: nn.Module, uses: dict[str, Use]) -> None:
    """A parametrized weight, stored as `parametrizations.weight.original`, is used as the weight it makes."""
    parametrizations = attribute(module, "parametrizations")
    if not isinstance(parametrizations, nn.ModuleDict):
        return
    for local, chain in parametrizations.items():
        for stored, tensor in chain._parameters.items():
            if tensor is not None and stored in ("original", "original1"):
                use = declared_use(module, local, tensor, path)
                if use is not None:
                    uses[f"{path}.parametrizations.{local}.{stored}".lstrip(".")] = use
