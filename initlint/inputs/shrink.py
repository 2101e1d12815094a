"""Of a call that runs: what the model does not look at is left out.

A model that reads the first three columns of its input runs on five; one that multiplies by a float runs on
whole numbers. Neither is what it was made for.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from initlint.inputs.attempt import Success, attempt
from initlint.inputs.call_spec import Call, Maker, Path, TensorSpec
from initlint.inputs.first_guess import spec_by_name
from initlint.runtime import leaves

FEATURES = 2  # dimensions of an argument whose last one holds features or positions, all of them used
SERIES = 3  # dimensions of the largest argument that is tried: of images every layer sees all channels


@dataclass(frozen=True, slots=True)
class Shrinker:
    """A model that runs on a call, and when to stop trying others."""

    model: nn.Module
    parameters: Mapping[str, inspect.Parameter]
    maker: Maker
    deadline: float
    seen: dict[Call, list[torch.Tensor] | None] = field(default_factory=dict)

    def shrink(self, call: Call) -> Call:
        """The call with floats where whole numbers are no indices, and without sizes that are not used."""
        for path, spec in call.leaves():
            if spec.kind == "int" and not any(spec_by_name(key, self.model) for key in path):
                real = call.with_spec(path, TensorSpec(spec.shape, settled=spec.settled))
                call = real if self._outputs(real) is not None else call
        for path, spec in call.leaves():
            for dimension in range(1, len(spec.shape) if len(spec.shape) <= SERIES else 0):
                size = self._used_size(call, path, dimension)
                if size is None:
                    continue
                smaller = call.with_spec(path, replace(spec, shape=_with_size(spec.shape, dimension, size)))
                if self._outputs(smaller) is not None and self._used_size(smaller, path, dimension) is None:
                    call, spec = smaller, replace(spec, shape=_with_size(spec.shape, dimension, size))
        return call

    def _used_size(self, call: Call, path: Path, dimension: int) -> int | None:
        """How much of a dimension the output depends on; None when on all, or when that cannot be told."""
        spec = call.spec(path)
        assert isinstance(spec, TensorSpec)
        size = spec.shape[dimension]
        most = (
            size - 1 if len(spec.shape) <= FEATURES else size // 2
        )  # the last steps of a convolution may go unseen
        if most < 1 or spec.fill != "random":
            return None
        if call not in self.seen:
            self.seen[call] = self._outputs(call)
        plain = self.seen[call]
        if plain is None or not self._is_same(plain, call, path, dimension, most):
            return None
        low, high = 0, most  # what lies behind `high` makes no difference
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if self._is_same(plain, call, path, dimension, middle) else (middle, high)
            )
        return high if low or not self._is_same(plain, call, path, dimension, 0) else None

    def _is_same(self, plain: list[torch.Tensor], call: Call, path: Path, dimension: int, start: int) -> bool:
        """Whether other values from `start` on give the same output."""
        changed = self._outputs(call, path, dimension, start)
        return changed is not None and len(changed) == len(plain) and all(map(_is_equal, plain, changed))

    def _outputs(
        self, call: Call, path: Path | None = None, dimension: int = 0, start: int = 0
    ) -> list[torch.Tensor] | None:
        """What the model makes of the call, None when it does not run or there is no time."""

        def change(given: Mapping[Path, torch.Tensor]) -> None:
            if path is not None:
                tensor, spec = given[path], call.spec(path)
                assert isinstance(spec, TensorSpec)
                part = tensor.narrow(dimension, start, tensor.shape[dimension] - start)
                part.copy_(_other_values(part, spec))

        if time.monotonic() > self.deadline:
            return None
        for training in (False, True):
            outcome = attempt(self.model, call, self.parameters, self.maker, training=training, change=change)
            if isinstance(outcome, Success):
                return list(leaves(outcome.output))
        return None


def _other_values(part: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    if spec.kind == "bool":
        return ~part
    return (part + 1) % max(2, spec.high) if spec.kind == "int" else part * -2 + 1


def _with_size(shape: tuple[int, ...], dimension: int, size: int) -> tuple[int, ...]:
    return (*shape[:dimension], size, *shape[dimension + 1 :])


def _is_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    a, b = (tensor if tensor.layout is torch.strided else tensor.to_dense() for tensor in (a, b))
    return a.shape == b.shape and bool(torch.isclose(a, b, rtol=0.0, atol=0.0, equal_nan=True).all())
