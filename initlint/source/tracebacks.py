"""Which line of the user's an exception is to be blamed on."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterable
from types import TracebackType

from initlint.errors import TargetError
from initlint.source.frames import ENGINE


# ---------------------------------------------------------------- blaming the user's line
def blame(stage: str, error: BaseException) -> TargetError:
    """What the user's code raised, as a TargetError that points at the user's own line."""
    if isinstance(error, TargetError):
        return error
    if isinstance(error, SyntaxError) and error.filename:
        return TargetError(stage, type(error).__name__, error.msg, error.filename, error.lineno)
    file, line = own_line(traceback_lines(error.__traceback__))
    return TargetError(stage, type(error).__name__, _message(error), file, line)


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "it called exit()" if error.code is None else f"it called exit({error.code!r})"
    try:
        text = str(error)
    except Exception:  # the __str__ of a user's exception may raise as well
        return "an exception whose text cannot be read"
    if isinstance(error, KeyError):
        text = f"key {text}"
    return shortened(" ".join(text.split()), 600) or "no message"


def traceback_lines(traceback: TracebackType | None) -> list[tuple[str, int]]:
    """File and line of every frame, outermost first."""
    found = []
    while traceback is not None:
        found.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def own_line(lines: Iterable[tuple[str, int]]) -> tuple[str | None, int | None]:
    """The innermost line of the user's own code, else of a library that is neither torch nor initlint."""
    ranked = [(rank, line) for line in lines if (rank := _foreign(line[0])) < 2]
    if not ranked:
        return None, None
    nearest = min(rank for rank, _ in ranked)
    return [line for rank, line in ranked if rank == nearest][-1]


def _foreign(file: str) -> int:
    """0 for the user's own file, 1 for an installed library, 2 for torch, initlint and the interpreter."""
    if file.startswith("<"):
        return 2
    if file.startswith(ENGINE) or re.search(r"[\\/]site-packages[\\/]torch[\\/]", file):
        return 2
    return int(file.startswith(_INSTALLED))


_INSTALLED = tuple(
    path + os.sep
    for key in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(key))
)


def shortened(text: str, width: int = 100) -> str:
    """The text with its middle left out where it is longer than `width`."""
    return text if len(text) <= width else f"{text[: width // 2]}…{text[-width // 2 + 1 :]}"
