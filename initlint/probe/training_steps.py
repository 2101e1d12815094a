"""Training steps that are undone afterwards: fresh inputs, fresh targets, plain SGD."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from initlint.runtime import (
    Inputs,
    attribute,
    drained,
    leaves,
    mapped,
    preserved,
    seed_generators,
    set_mode,
    varied,
)

RELATIVE_STEP = 0.1  # of the tensor that moves fastest: visible after one step, far from divergence
SMALLEST_SIZE = 0.1  # of the typical tensor; a tensor smaller than this does not set the step
MOST_IN_DOUBLE = 200_000_000  # elements of the largest model that is tried in float64
#: Caches and intermediate states of transformers: outputs that no loss is made of.
CACHES = frozenset({"past_key_values", "mems", "hidden_states", "attentions", "cache_params"})

Loss = Callable[..., torch.Tensor]


class TrialError(Exception):
    """The model does not run under the conditions of this trial."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Gradients of one batch and their largest magnitudes, by first name, of the tensors that one reached."""

    gradients: dict[str, torch.Tensor]
    sizes: dict[str, float]


@dataclass(frozen=True, slots=True)
class Trial:
    """A model and what it is trained on."""

    model: nn.Module
    inputs: Inputs
    loss: Loss | None
    vary: bool  # every step sees other values of the inputs
    generator: torch.Generator

    def batch(self) -> Batch:
        """Gradients of one fresh batch; raises TrialError when it does not run or one is not finite."""
        self.model.zero_grad(set_to_none=True)
        try:
            inputs = fresh_inputs(self.inputs, self.model, self.generator) if self.vary else self.inputs
            inputs = _changed(inputs, _writable_copy)
            with _NoDropout():
                output = drained(self.model(*inputs.args, **inputs.kwargs))
            objective = self.loss(output) if self.loss else random_objective(output, self.generator)
            objective.backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            raise TrialError(f"{type(error).__name__}: {error}") from error
        gradients = {
            name: p.grad.to_dense() if p.grad.is_sparse else p.grad
            for name, p in self.model.named_parameters()
            if p.grad is not None and p.numel()
        }
        sizes = {name: float(gradient.abs().max()) for name, gradient in gradients.items()}
        if not all(map(isfinite, sizes.values())):
            raise TrialError("a gradient is not finite")
        return Batch(gradients, sizes)

    def step(self, batch: Batch) -> None:
        """One SGD step, the same rate for all: a rate per tensor would blow rounding errors up."""
        moving = [(p, batch.gradients[n]) for n, p in self.model.named_parameters() if batch.sizes.get(n)]
        sizes = [_rms(parameter) for parameter, _ in moving]
        nonzero = sorted(size for size in sizes if size > 0)
        least = SMALLEST_SIZE * (nonzero[len(nonzero) // 2] if nonzero else 1.0)
        fastest = max(
            (_rms(g) / max(size, least) for size, (_, g) in zip(sizes, moving, strict=True)), default=1.0
        )
        with torch.no_grad():
            for parameter, gradient in moving:
                parameter.sub_(gradient.to(parameter.dtype), alpha=RELATIVE_STEP / fastest)


def _rms(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.detach()) / tensor.numel() ** 0.5)


# ---------------------------------------------------------------- conditions


@contextmanager
def reversible_trial(
    model: nn.Module,
    inputs: Inputs,
    *,
    loss: Loss | None,
    training: bool,
    dtype: torch.dtype | None,
    vary: bool,
    seed: int,
) -> Iterator[Trial]:
    """A trial of the model in `dtype` and without dropout, all of which is undone at the end."""
    with preserved(model):
        seed_generators(seed)
        torch.set_grad_enabled(True)
        if dtype:
            model._apply(lambda tensor: _cast(tensor, dtype))  # type: ignore[no-untyped-call]
            torch.set_default_dtype(dtype)
            inputs = _changed(inputs, lambda tensor: _cast(tensor, dtype))
        set_mode(model, training)
        turn_dropout_off(model)
        yield Trial(model, inputs, loss, vary, torch.Generator().manual_seed(seed))


def precisions(model: nn.Module) -> tuple[torch.dtype | None, ...]:
    """Precisions to try, best first; None keeps the model's own."""
    floating = [p for p in model.parameters() if not is_lazy(p) and p.is_floating_point()]
    if sum(p.numel() for p in floating) > MOST_IN_DOUBLE:
        return (None,)
    if any(p.dtype in (torch.float16, torch.bfloat16) for p in floating):
        return torch.float64, torch.float32, None
    return torch.float64, None


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if is_lazy(tensor):
        return tensor
    if tensor.is_complex():
        return tensor.to(dtype.to_complex())
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def turn_dropout_off(model: nn.Module) -> None:
    """Turn dropout and stochastic depth off: random masks would tell equal units apart."""
    for module in model.modules():
        if "drop" in type(module).__name__.lower() and not any(True for _ in module.parameters()):
            module.eval()
        _zero_rates(module)
        _zero_rates(attribute(module, "config"))


def _zero_rates(holder: object) -> None:
    """Set the attributes that look like rates of dropout to zero."""
    settings = vars(holder) if hasattr(holder, "__dict__") else {}
    for name, value in list(settings.items()):
        if "drop" in name.lower() and isinstance(value, float) and 0 < value < 1:
            settings[name] = 0.0


class _NoDropout(TorchFunctionMode):
    """Calls of functional dropout return their input."""

    CALLS = frozenset(
        {
            torch.dropout,
            torch.alpha_dropout,
            torch.feature_dropout,
            nn.functional.dropout,
            nn.functional.dropout1d,
            nn.functional.dropout2d,
            nn.functional.dropout3d,
            nn.functional.alpha_dropout,
            nn.functional.feature_alpha_dropout,
        }
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.CALLS:
            return args[0] if args else kwargs["input"]
        if func is nn.functional.scaled_dot_product_attention and "dropout_p" in kwargs:
            kwargs = {**kwargs, "dropout_p": 0.0}
        return func(*args, **kwargs)


# ---------------------------------------------------------------- inputs and targets


def _writable_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that the model may change in place."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _changed(inputs: Inputs, change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
    args = mapped(inputs.args, change)
    return Inputs(args, mapped(dict(inputs.kwargs), change), inputs.source, inputs.text)


def fresh_inputs(inputs: Inputs, model: nn.Module, generator: torch.Generator) -> Inputs:
    """Other inputs with the same shapes, kinds and values, in another order; masks are kept."""
    names = _argument_names(model)
    args = tuple(
        varied(item, names[i] if i < len(names) else "", generator) for i, item in enumerate(inputs.args)
    )
    kwargs = {key: varied(item, key, generator) for key, item in inputs.kwargs.items()}
    return Inputs(args, kwargs, inputs.source, inputs.text)


def _argument_names(model: nn.Module) -> list[str]:
    try:
        return list(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        return []


def random_objective(output: Any, generator: torch.Generator) -> torch.Tensor:
    """Sum of all outputs, each value weighted at random; a single number counts as a loss."""
    outputs = [t for t in leaves(output, without=CACHES) if t.requires_grad and t.numel()]
    if not outputs:
        raise TrialError("no output depends on a parameter")
    terms = []
    for value in outputs:
        real = torch.view_as_real(value) if value.is_complex() else value
        targets = torch.randn(real.shape, generator=generator, dtype=torch.float64, device="cpu").to(real)
        terms.append((real * targets).mean() if real.dim() else real)
    return torch.stack([term.to(terms[0]) for term in terms]).sum()
