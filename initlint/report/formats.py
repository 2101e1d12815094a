"""Output formats: each module renders a report as text and does nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from initlint.report.records import Report


class Render(Protocol):
    """A report as text. `width` None: lines are not wrapped; `color`: ANSI colours are wanted."""

    def __call__(
        self, report: Report, *, width: int | None, color: bool, verbose: bool = False, quiet: bool = False
    ) -> str:
        """Text that ends with a newline unless it is empty."""
        ...


def _renderer(name: str) -> Render:
    """The render function of a module that is imported when the function is called."""

    def render(
        report: Report, *, width: int | None, color: bool, verbose: bool = False, quiet: bool = False
    ) -> str:
        module = import_module(f"initlint.report.{name}")
        text: str = module.render(report, width=width, color=color, verbose=verbose, quiet=quiet)
        return text

    return render


FORMATS: dict[str, Render] = {name: _renderer(name) for name in ("table", "full", "concise", "json")}
NOTEBOOK = _renderer("notebook")
