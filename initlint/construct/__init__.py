"""The recorded build, and what only the live model can tell."""

from initlint.construct.build import Construction, construct
from initlint.construct.inspect.references import mention
from initlint.construct.inspect.unregistered import Hidden, hidden
from initlint.construct.rebuild import rebuild

__all__ = [
    "Construction",
    "Hidden",
    "construct",
    "hidden",
    "mention",
    "rebuild",
]
