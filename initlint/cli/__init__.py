"""The command, its configuration and its progress."""

from initlint.cli import config
from initlint.cli.command import main, run

__all__ = [
    "config",
    "main",
    "run",
]
