"""initlint: the linter for how PyTorch models are initialised.

Importing this package does not import torch; `check` does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from initlint.api import check
    from initlint.errors import ConfigError, InitlintError, PackError, TargetError
    from initlint.evidence import (
        Confirmation,
        Coupling,
        Evidence,
        Gradient,
        Logits,
        LostWrite,
        MemberTest,
        Miss,
        ModuleRecord,
        Padding,
        Provenance,
        Rebuild,
        Scale,
        Scheme,
        Seeding,
        Shape,
        Signal,
        SignalKind,
        Statement,
        Statistics,
        Step,
        Tensor,
        Tie,
        Unregistered,
        Use,
        UsedTensor,
        Via,
        Weight,
        Wiring,
        Write,
    )
    from initlint.finding import Figure, Finding, Location, Severity, Site, Suggestion
    from initlint.report import FindingsError, Report, TargetReport
    from initlint.rule import Example, Need, Relation, Rule

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "Confirmation",
    "Coupling",
    "Evidence",
    "Example",
    "Figure",
    "Finding",
    "FindingsError",
    "Gradient",
    "InitlintError",
    "Location",
    "Logits",
    "LostWrite",
    "MemberTest",
    "Miss",
    "ModuleRecord",
    "Need",
    "PackError",
    "Padding",
    "Provenance",
    "Rebuild",
    "Relation",
    "Report",
    "Rule",
    "Scale",
    "Scheme",
    "Seeding",
    "Severity",
    "Shape",
    "Signal",
    "SignalKind",
    "Site",
    "Statement",
    "Statistics",
    "Step",
    "Suggestion",
    "TargetError",
    "TargetReport",
    "Tensor",
    "Tie",
    "Unregistered",
    "Use",
    "UsedTensor",
    "Via",
    "Weight",
    "Wiring",
    "Write",
    "__version__",
    "check",
]

_MODULES = ("errors", "finding", "rule", "evidence", "report", "api")


def __getattr__(name: str) -> object:
    """Import an exported name when it is first used: the command line starts without most of them."""
    if name in __all__:
        for module in _MODULES:
            room = import_module(f"initlint.{module}")
            if hasattr(room, name):
                globals()[name] = getattr(room, name)
                return globals()[name]
    raise AttributeError(f"module 'initlint' has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return __all__
