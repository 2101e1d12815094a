"""initlint: the linter for how PyTorch models are initialised.

Importing this package does not import torch; `check` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint.errors import ConfigError, InitlintError, PackError, TargetError
    from initlint.evidence import Evidence, LostWrite, ModuleRecord, Signal, Statistics, Tensor, Use, Write
    from initlint.finding import Figure, Finding, Location, Severity, Site, Suggestion
    from initlint.report import FindingsError, Report, TargetReport
    from initlint.rule import Example, Rule

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "Evidence",
    "Example",
    "Figure",
    "Finding",
    "FindingsError",
    "InitlintError",
    "Location",
    "LostWrite",
    "ModuleRecord",
    "PackError",
    "Report",
    "Rule",
    "Severity",
    "Signal",
    "Site",
    "Statistics",
    "Suggestion",
    "TargetError",
    "TargetReport",
    "Tensor",
    "Use",
    "Write",
    "__version__",
    "check",
]

_MODULES = ("errors", "evidence", "finding", "report", "rule")


def __getattr__(name: str) -> object:
    """Import an exported name when it is first used: the command line starts without most of them."""
    if name in __all__:
        for module in _MODULES:
            exported = vars(import_module(f"initlint.{module}"))
            if name in exported:
                globals()[name] = exported[name]
                return globals()[name]
    raise AttributeError(f"module 'initlint' has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return __all__


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
