"""The status line of a long run."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass, field


@dataclass
class Progress:
    """One line on the terminal that says what is being done, once it takes longer than a second."""

    is_shown: bool
    start: float = field(default_factory=time.monotonic)
    length: int = 0

    def show(self, target: str, stage: str) -> None:
        """Replace the line."""
        if not self.is_shown or time.monotonic() - self.start < 1.0:
            return
        text = f"{target}: {stage}"[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(f"\r{text:<{self.length}}")
        sys.stderr.flush()
        self.length = len(text)

    def clear(self) -> None:
        """Wipe the line."""
        if self.length:
            sys.stderr.write(f"\r{'':<{self.length}}\r")
            sys.stderr.flush()
            self.length = 0
