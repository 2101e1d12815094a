"""How much memory is left on this machine, and the limit that keeps a target from taking all of it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

KEPT = 0.1  #: share of the available memory that is left to everyone else


def available() -> int | None:
    """Bytes that targets may use, here and in the container; None where it cannot be told."""
    free = [_field(Path("/proc/meminfo"), "MemAvailable"), *map(_container, _CONTAINERS)]
    known = [amount for amount in free if amount is not None]
    return int(min(known) * (1 - KEPT)) if known else None


def limit(amount: int | None) -> None:
    """Let this process allocate at most `amount` bytes beyond what it holds: more is a MemoryError.

    The limit is on writable private memory (RLIMIT_DATA), so that mapped files do not count.
    """
    held = _field(Path("/proc/self/status"), "VmData")
    if amount is None or held is None or sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + amount
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


_CONTAINERS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _container(names: tuple[str, str, str, str]) -> int | None:
    """What a control group may still use; file pages that can be dropped do not count as used."""
    folder, most, current, droppable = names
    try:
        limit = int(Path(folder, most).read_text())
        used = int(Path(folder, current).read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    return limit - used + (_field(Path(folder, "memory.stat"), droppable) or 0)


def _field(file: Path, name: str) -> int | None:
    """A line of the form "name: 12 kB", or "name 12", in bytes."""
    try:
        found = re.search(rf"^{name}:?\s+(\d+)( kB)?", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * (1024 if found[2] else 1) if found else None
