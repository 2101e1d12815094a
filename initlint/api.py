"""`initlint.check`: lints a model in the calling process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint.report import Report


#: Torch is watched and patched while a model is linted; a second thread waits for its turn.
_ONE_AT_A_TIME = RLock()


def check(
    model: nn.Module | Callable[[], nn.Module],
    inputs: object = None,
    *,
    device: str | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    loss: Callable[..., torch.Tensor] | None = None,
) -> Report:
    """Lint a model in this process; of one built by a callable, findings name the lines that wrote values.

    `inputs` is a tensor, a tuple of positional arguments, a dict of keyword arguments, a pair (tuple,
    dict) or a callable that returns one of them. Raises ConfigError for unknown rules; whatever is
    wrong with the model is part of the report.
    """
    from torch import nn

    from initlint import engine, registry
    from initlint.report import Report, Tool

    selection = registry.Selection("", None if select is None else tuple(select), (), tuple(ignore))
    rules = [rule() for rule in registry.load().select([selection])]
    if isinstance(model, nn.Module):
        ready = model
        name, place, build = type(ready).__qualname__, _device(ready), lambda: ready
    else:
        name, place, build = getattr(model, "__qualname__", type(model).__qualname__), "cpu", model
    settings = engine.Settings(device=device or place)
    with _ONE_AT_A_TIME:
        target = engine.examine(
            name,
            lambda: build,
            rules,
            inputs=None if inputs is None else lambda: inputs,
            loss=None if loss is None else lambda: loss,
            settings=settings,
            borrowed=isinstance(model, nn.Module),
        )
    return Report(Tool.here(settings.seed, settings.device), (target,))


def _device(model: nn.Module) -> str:
    """Where the model's first parameter lives; "cpu" for one that has no storage yet."""
    first = next((str(parameter.device) for parameter in model.parameters()), "cpu")
    return "cpu" if first == "meta" else first
