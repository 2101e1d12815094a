"""The user's Python: frames, syntax, slices."""

from initlint.source.classes import (
    RESET_METHODS,
    assignment,
    container,
    definition,
    methods,
    moves,
    reset_method,
)
from initlint.source.frames import (
    Instruction,
    Positions,
    Role,
    here,
    in_forward,
    outside,
    package,
    position,
    role,
)
from initlint.source.liveness import LISTING, Fate, fate
from initlint.source.slicing import behind, spelled
from initlint.source.syntax import body, extended, literals, syntax, text, tree, worked_on
from initlint.source.tracebacks import blame, own_line, shortened, traceback_lines

__all__ = [
    "LISTING",
    "RESET_METHODS",
    "Fate",
    "Instruction",
    "Positions",
    "Role",
    "assignment",
    "behind",
    "blame",
    "body",
    "container",
    "definition",
    "extended",
    "fate",
    "here",
    "in_forward",
    "literals",
    "methods",
    "moves",
    "outside",
    "own_line",
    "package",
    "position",
    "reset_method",
    "role",
    "shortened",
    "spelled",
    "syntax",
    "text",
    "traceback_lines",
    "tree",
    "worked_on",
]
