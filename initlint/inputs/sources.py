"""Where inputs come from: given, a shape, the target's module, the model's own hint, a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from initlint.errors import ConfigError, TargetError
from initlint.inputs.attempt import refusal
from initlint.inputs.hints import hints
from initlint.inputs.search import SearchFailure, SearchResult, search_inputs
from initlint.runtime import Inputs, mapped

FORMS = "a tensor, a tuple of positional arguments, a dict of keyword arguments, or a pair (tuple, dict)"


def given(value: object) -> Inputs:
    """Inputs from what the user gave: one of the four forms, or a callable that returns one.

    Raises ConfigError when the value has none of the forms, TargetError when the callable fails.
    """
    while callable(value) and not isinstance(value, (torch.Tensor, nn.Module, type)):
        value = _result(value)
    args, kwargs = mapped(_arguments(value), lambda array: torch.from_numpy(array.copy()), np.ndarray)
    return Inputs(args, kwargs, "given", f"{description(args, kwargs)}, given")


def _result(function: Callable[[], object]) -> object:
    try:
        return function()
    except Exception as error:
        raise TargetError("inputs", type(error).__name__, f"the inputs could not be made: {error}") from error


def _arguments(value: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    match value:
        case torch.Tensor() | np.ndarray():
            return (value,), {}
        case Mapping():
            return (), {str(key): item for key, item in value.items()}
        case (tuple() as args, Mapping() as kwargs) if all(isinstance(key, str) for key in kwargs):
            return args, dict(kwargs)
        case tuple():
            return tuple(value), {}
    raise ConfigError(f"inputs must be {FORMS}, not {type(value).__name__}")


# ---------------------------------------------------------------- asked of the model
@dataclass(frozen=True, slots=True)
class NotFound:
    """No inputs: `reason` says what was tried and how to give them."""

    reason: str


def from_shape(text: str, model: nn.Module, *, seed: int = 0) -> Inputs:
    """A batch of the shape in `text` ("2,3,224,224"), of ids where the model wants whole numbers.

    Raises ConfigError when the text is not a list of sizes.
    """
    try:
        shape = tuple(int(size) for size in text.split(","))
    except ValueError:
        raise ConfigError(f"input shape {text!r} is not a list of sizes such as 2,3,224,224") from None
    if min(shape) < 1:
        raise ConfigError(f"input shape {text!r} has a size below 1")
    found = search_inputs(model, seed=seed, shape=shape)
    if isinstance(found, SearchResult):
        return Inputs(found.args, found.kwargs, "given", f"{description(found.args, found.kwargs)}, given")
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), device="cpu")
    return Inputs((values,), {}, "given", f"{description((values,), {})}, given")


def find(
    model: nn.Module, *, module: ModuleType | None = None, seed: int = 0, budget: float = 10.0
) -> Inputs | NotFound:
    """Inputs that nobody gave: `example_inputs` of the target's module, the model's hint, or inferred ones.

    Hints and inferred inputs have run; looking for them takes at most about `budget` seconds.
    """
    example = getattr(module, "example_inputs", None)
    if example is not None:
        return given(example)
    refused = []
    for name, args, kwargs in hints(model, seed):
        problem = refusal(model, args, kwargs, seed=seed)
        if not problem:
            return Inputs(args, kwargs, "hint", f"{description(args, kwargs)}, from the model's {name}")
        refused.append(f"its {name} ({problem})")
    found = search_inputs(model, seed=seed, budget=budget)
    if isinstance(found, SearchResult):
        return Inputs(
            found.args, found.kwargs, "inferred", f"{description(found.args, found.kwargs)}, inferred"
        )
    return NotFound(_reason(found, refused))


def _reason(failure: SearchFailure, refused: list[str]) -> str:
    tries = "1 try" if failure.tries == 1 else f"{failure.tries} tries"
    tried = f"no inputs could be inferred in {tries}"
    if failure.text:
        tried += f"; the one that came furthest, ({failure.text}), ended in {failure.error}"
    hint = f"; not run either: {', '.join(refused)}" if refused else ""
    return (
        f"{tried}{hint}; give them with --inputs module:attr, --input-shape, or example_inputs in the module"
    )


# ---------------------------------------------------------------- words
def description(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Kinds and shapes of the arguments: "float32[2, 3, 8, 8], mask=bool[2, 16]"."""
    return ", ".join(
        [
            *map(_value_description, args),
            *(f"{key}={_value_description(item)}" for key, item in kwargs.items()),
        ]
    )


def _value_description(value: Any) -> str:
    match value:
        case torch.Tensor():
            return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        case list() | tuple():
            inner = [_value_description(item) for item in value[:3]] + ["…"] * (len(value) > 3)
            return f"[{', '.join(inner)}]" if isinstance(value, list) else f"({', '.join(inner)})"
        case Mapping():
            return "{" + ", ".join(f"{key}: {_value_description(item)}" for key, item in value.items()) + "}"
        case SimpleNamespace():
            return f"({', '.join(f'{key}: {_value_description(item)}' for key, item in vars(value).items())})"
        case None | bool() | int() | float() | str():
            return repr(value)
    return type(value).__name__
