"""Differences between two reports in JSON, but for the seconds that they took.

    python -m benchmarks.compare_reports BEFORE.json AFTER.json

Each file is a report of `initlint --format json`, or lines (`.jsonl`) of one target each. The exit status is
1 where any target differs or stands in one of the files only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TIMES = "seconds"  # the one key whose values no two runs share
SHOWN = 120  # characters of a value


def targets(path: Path) -> dict[str, Any]:
    """The targets of a report by name, in order; a name that recurs gets a number."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        listed = [json.loads(line) for line in text.splitlines() if line.strip()]
    else:
        listed = json.loads(text)["targets"]
    found: dict[str, Any] = {}
    for target in listed:
        name, times = str(target["target"]), 1
        while name in found:
            times += 1
            name = f"{target['target']} ({times})"
        found[name] = target
    return found


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Lines "PATH: BEFORE -> AFTER", one for each value that differs, depth first."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            if key != TIMES:
                inner = f"{path}.{key}" if path else key
                yield from differences(before.get(key, ABSENT), after.get(key, ABSENT), inner)
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            first, second = (side[index] if index < len(side) else ABSENT for side in (before, after))
            yield from differences(first, second, f"{path}[{index}]")
    elif type(before) is not type(after) or before != after:
        yield f"{path}: {shown(before)} -> {shown(after)}"


class Absent:
    """What stands where one of the documents holds nothing."""


ABSENT = Absent()


def shown(value: Any) -> str:
    """The value as JSON, cut to a line; "nothing" for what is absent."""
    if value is ABSENT:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def main() -> int:
    """Print every difference by target, and fail if there is any."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    arguments = parser.parse_args()
    before, after = targets(arguments.before), targets(arguments.after)
    names = [*before, *(name for name in after if name not in before)]
    differ = 0
    for name in names:
        if name not in before or name not in after:
            lines = [f"only in {arguments.before if name in before else arguments.after}"]
        else:
            lines = list(differences(before[name], after[name]))
        differ += bool(lines)
        if lines:
            print(name, *(f"  {line}" for line in lines), sep="\n")
    print(f"{len(names)} targets, {differ} differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
