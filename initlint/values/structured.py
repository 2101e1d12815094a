"""Identity, orthogonal and sparse matrices: schemes that are no independent draws."""

from __future__ import annotations

STRUCTURED_ZEROS = 0.01  # fraction of exact zeros above which they are no accident of rounding
