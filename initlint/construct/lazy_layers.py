"""Gives lazy layers the shapes that the first forward would give them, without its other effects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from initlint.runtime import Inputs, preserved


class FirstCall(NamedTuple):
    """A lazy layer and what it is called with first."""

    layer: Any
    args: tuple[Any, ...]


def undecided(model: nn.Module) -> bool:
    """Some parameters or buffers have no shape before the first forward."""
    return any(map(is_lazy, (*model.parameters(), *model.buffers())))


def first_calls(model: nn.Module, inputs: Inputs) -> list[FirstCall]:
    """The first calls of lazy layers, up to where the forward raises; afterwards the model is as before."""
    calls: list[FirstCall] = []
    with preserved(model, inputs.args, inputs.kwargs), torch.no_grad(), _listening(calls):
        try:
            model(*inputs.args, **inputs.kwargs)
        except Exception:  # the probe meets it again, and tells
            return calls
    return calls


@contextmanager
def _listening(calls: list[FirstCall]) -> Iterator[None]:
    def hear(module: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
            calls.append(FirstCall(module, args))

    handle = nn.modules.module.register_module_forward_pre_hook(hear)
    try:
        yield
    finally:
        handle.remove()


def decide(calls: Iterable[FirstCall]) -> None:
    """Let the layers take their shapes and draw their values."""
    for layer, args in calls:
        layer._infer_parameters(layer, args)
