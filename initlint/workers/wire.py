"""What goes between a worker and its parent: a task there; stages and a report, pickled, back."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any, cast

from initlint.errors import TargetError
from initlint.report import Failure, TargetReport
from initlint.rule import Rule
from initlint.target import Target

STAGE, REPORT = b"S", b"R"  #: first byte of a message
#: Types of plain values; a subclass of one crosses as the type itself.
PLAIN = (int, float, str, tuple, list, dict, frozenset, set)
_BUILTINS = frozenset({"bool", "complex", *(plain.__name__ for plain in PLAIN)})


@dataclass(frozen=True, slots=True)
class Task:
    """A target, the rules to judge it by, and the seconds it may take (0: no limit)."""

    target: Target
    rules: tuple[Rule, ...]
    timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker may use of the machine. `memory` in bytes, None: no limit."""

    threads: int
    memory: int | None


def failed_report(target: Target, error: TargetError) -> TargetReport:
    """The report of a target that could not be linted."""
    failure = Failure(error.stage, error.kind, error.message, error.file, error.line)
    return TargetReport(target.name, status="error", error=failure)


class _Pickler(pickle.Pickler):
    """Lets plain values and initlint's records through; a subclass of a plain type becomes plain."""

    def reducer_override(self, value: object) -> Any:
        kind = type(value)
        if isinstance(value, type) or kind.__module__.startswith("initlint."):
            return NotImplemented
        for plain in PLAIN:
            if isinstance(value, plain):
                return plain, (plain(cast(Any, value)),)
        if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "item"):
            number = value.item()
            return type(number), (number,)
        raise pickle.PicklingError(f"the report holds a {kind.__module__}.{kind.__qualname__}")


class _Unpickler(pickle.Unpickler):
    """Makes nothing but plain values and initlint's records: a worker has run strangers' code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("initlint.") or (module == "builtins" and name in _BUILTINS):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"the report holds a {module}.{name}")


def pickled(report: TargetReport) -> bytes:
    """Bytes of a report; of one that holds a stranger's object, of the failure to send it."""
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(report)
    except Exception as error:
        message = f"internal error of initlint: the report cannot be sent: {error}"
        failure = Failure("rules", type(error).__name__, message)
        return pickle.dumps(TargetReport(str(report.target), status="error", error=failure))
    return buffer.getvalue()


def unpickled(message: bytes, target: Target) -> TargetReport:
    """The report that a worker sent; a failure where it holds anything but records and plain values."""
    try:
        report = _Unpickler(io.BytesIO(message)).load()
    except Exception as error:
        failure = Failure("rules", type(error).__name__, f"the report cannot be read: {error}")
        return TargetReport(target.name, status="error", error=failure)
    assert isinstance(report, TargetReport)
    return report
