"""Finds inputs on which a model runs: a first guess, then repairs of the call that came furthest.

A call that fails tells which operator objected to what, and each argument leaves its mark on the tensors
made from it; so a repair changes the argument that was at fault. The search is best first: by how many
operators ran before the failure, then by how likely the repair is.
"""

from __future__ import annotations

import heapq
import inspect
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import nn

from initlint.inputs.attempt import Failure, Success, attempt
from initlint.inputs.call_spec import LENGTH, WIDTH, Call, Maker
from initlint.inputs.first_guess import first_guess
from initlint.inputs.repairs import Repair, Sides
from initlint.inputs.shrink import Shrinker

MOST_TRIES = 120
MOST_PROPOSALS = 12  # of one failure


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Arguments on which the model ran, and how many tries that took."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    tries: int


@dataclass(frozen=True, slots=True)
class SearchFailure:
    """No call ran: what was tried, and what the one that came furthest raised."""

    tries: int
    text: str
    error: str


def search_inputs(
    model: nn.Module, *, seed: int = 0, budget: float = 10.0, shape: tuple[int, ...] | None = None
) -> SearchResult | SearchFailure:
    """Search for inputs for at most `budget` seconds of tries; the model stays as it is.

    With `shape` the first tensor has it and keeps it.
    """
    parameters = _parameters(model)
    maker = Maker(_dtype(model), _device(model), seed)
    end = time.monotonic() + budget
    order = count()
    first = first_guess(model, parameters)
    first = _with_first_shape(first, shape) if shape else first
    queue: list[tuple[int, int, int, int, Call]] = [(0, 0, next(order), -1, first)]
    tried: set[Call] = set()
    sides: Sides = {}
    furthest = (-1, "", "")
    while queue and len(tried) < MOST_TRIES and (not tried or time.monotonic() < end):
        _, depth, _, reached, call = heapq.heappop(queue)
        if call in tried:
            continue
        tried.add(call)
        outcome = attempt(model, call, parameters, maker)
        if isinstance(outcome, Success):
            call = Shrinker(model, parameters, maker, end).shrink(call)
            args, kwargs, _ = maker.arguments(call, parameters)
            return SearchResult(args, kwargs, len(tried))
        if outcome.calls > furthest[0]:
            furthest = (outcome.calls, call.text(), _error_line(outcome))
        depth = depth + 1 if outcome.calls <= reached else 0  # repairs of this failure so far
        proposals = Repair(model, parameters, call, outcome, sides).proposals()
        for rank, proposal in zip(range(MOST_PROPOSALS), proposals, strict=False):
            proposal = _with_first_shape(proposal, shape) if shape else proposal
            if proposal not in tried:
                heapq.heappush(queue, (-outcome.calls, depth + rank, next(order), outcome.calls, proposal))
        if not queue and not shape:  # what failed was no operator that says what it wants
            for proposal in _calls_of_other_ranks(first):
                heapq.heappush(queue, (0, MOST_PROPOSALS, next(order), -1, proposal))
    return SearchFailure(len(tried), *furthest[1:])


def _calls_of_other_ranks(call: Call) -> Iterator[Call]:
    """With more features of one argument, or with its features in sequences or images."""
    for path, spec in call.leaves():
        if spec.kind == "float" and len(spec.shape) == 2:
            batch, width = spec.shape
            for shape in ((batch, max(width, WIDTH)), (batch, LENGTH, width), (batch, width, LENGTH, LENGTH)):
                yield call.with_spec(path, replace(spec, shape=shape))


def _with_first_shape(call: Call, shape: tuple[int, ...]) -> Call:
    """With the first tensor in this shape."""
    path, spec = next(call.leaves(), (None, None))
    return call.with_spec(path, replace(spec, shape=shape)) if path and spec else call


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):  # a forward written in C++
        return {"input": inspect.Parameter("input", inspect.Parameter.POSITIONAL_ONLY)}


def _dtype(model: nn.Module) -> torch.dtype:
    kinds = [p.dtype for p in model.parameters() if p.is_floating_point() and p.dtype.itemsize > 1]
    return kinds[0] if kinds else torch.get_default_dtype()


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _error_line(failure: Failure) -> str:
    first = (str(failure.error).strip().splitlines() or [""])[0]
    return f"{type(failure.error).__name__}: {first}"
