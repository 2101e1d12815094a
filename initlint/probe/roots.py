"""Where a backward starts: a loss that is given, or random directions over the outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from initlint.errors import TargetError
from initlint.runtime import Inputs

Loss = Callable[..., torch.Tensor]


def directions(
    outputs: Sequence[torch.Tensor], seed: int
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    """The last outputs that require a gradient, and for each a random direction to start from."""
    generator = torch.Generator().manual_seed(seed)
    roots = _final_outputs(
        [t for t in outputs if t.requires_grad and t.numel() and t.layout is torch.strided]
    )
    return roots, [_direction(root, generator) for root in roots]


def _direction(output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if output.numel() == 1:
        return torch.ones_like(output)
    classes = output.shape[1 if output.dim() > 3 else -1]
    size = classes**0.5 / output.numel()
    kind = torch.complex64 if output.is_complex() else torch.float32
    noise: torch.Tensor = torch.randn(output.shape, generator=generator, dtype=kind, device="cpu") * size
    return noise.to(output.device, output.dtype)


def _final_outputs(outputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The outputs from which no other output is made."""
    if len(outputs) < 2:
        return outputs
    behind: set[Any] = set()
    stack = [function for t in outputs if t.grad_fn is not None for function, _ in t.grad_fn.next_functions]
    while stack:
        function = stack.pop()
        if function is not None and function not in behind:
            behind.add(function)
            stack += [following for following, _ in function.next_functions]
    return [t for t in outputs if t.grad_fn is None or t.grad_fn not in behind]


def objective(loss: Loss, output: Any, inputs: Inputs) -> torch.Tensor:
    """The loss, as a tensor without axes; raises TargetError where it is no single number."""
    value = loss(output, _original_form(inputs)) if _takes_inputs(loss) else loss(output)
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        found = (
            f"a tensor of shape {list(value.shape)}"
            if isinstance(value, torch.Tensor)
            else type(value).__name__
        )
        raise TargetError("loss", "TypeError", f"the loss returned {found}, not a single number")
    if not value.requires_grad:
        raise TargetError("loss", "ValueError", "the loss does not depend on any parameter")
    return value.reshape(())


def _takes_inputs(loss: Loss) -> bool:
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):
        return False
    required = [
        p
        for p in signature.parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return len(required) >= 2


def _original_form(inputs: Inputs) -> Any:
    """The inputs as the user gave them: one value, a tuple, or a dict."""
    if inputs.kwargs:
        return (inputs.args, dict(inputs.kwargs)) if inputs.args else dict(inputs.kwargs)
    return inputs.args[0] if len(inputs.args) == 1 else inputs.args
