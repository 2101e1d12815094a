"""The user's standard output goes to standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what the user's code prints, from Python or from C, to stderr."""
    sys.stdout.flush()
    errors = sys.stderr
    with contextlib.redirect_stdout(errors):
        try:
            kept = os.dup(1)
        except OSError:  # no stdout at all
            yield
            return
        try:
            os.dup2(2, 1)
            yield
        finally:
            sys.stderr = errors
            errors.flush()
            os.dup2(kept, 1)
            os.close(kept)
