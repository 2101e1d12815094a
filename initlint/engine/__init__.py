"""The stages in order, their results joined, judged and verified."""

from initlint.engine.examine import examine
from initlint.engine.settings import Settings

__all__ = [
    "Settings",
    "examine",
]
