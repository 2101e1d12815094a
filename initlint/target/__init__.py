"""What is linted: a target is parsed, imported and called."""

from initlint.target.loading import criterion, example, load, module_of
from initlint.target.spec import Target, parse

__all__ = [
    "Target",
    "criterion",
    "example",
    "load",
    "module_of",
    "parse",
]
