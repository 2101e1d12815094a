"""What is said: the report's records, and the formats that render them.

Names are imported when they are first used: the command line starts without most of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from initlint.report.folding import fold
    from initlint.report.formats import FORMATS
    from initlint.report.pages import rule_page, rule_table
    from initlint.report.records import (
        Failure,
        FindingsError,
        ModelSummary,
        NotRun,
        Report,
        TargetReport,
        Tool,
        stage_in_errors,
    )
    from initlint.report.text import ascii_only

__all__ = [
    "FORMATS",
    "Failure",
    "FindingsError",
    "ModelSummary",
    "NotRun",
    "Report",
    "TargetReport",
    "Tool",
    "ascii_only",
    "fold",
    "rule_page",
    "rule_table",
    "stage_in_errors",
]

_MODULES = {
    "FORMATS": "formats",
    "ascii_only": "text",
    "fold": "folding",
    "rule_page": "pages",
    "rule_table": "pages",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    exported: object = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'records')}"), name)
    globals()[name] = exported
    return exported
