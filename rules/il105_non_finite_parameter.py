"""IL105 non-finite-parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class NonFiniteParameter(Rule):
    """A parameter or buffer that holds NaN or infinity.

    One such value reaches every output that depends on it, and after one step every parameter.

    Find the operation that produced it: a logarithm or root of a negative number, a division by zero,
    an initialiser that ran twice, a value beyond the range of the dtype.
    """

    code = "IL105"
    name = "non-finite-parameter"
    severity = "error"
    level = "non-finite"
    needs = frozenset({"statistics"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for tensor in model.tensors:
            figures = tensor.statistics
            if figures is None or tensor.provenance.unwritten:
                continue
            infs = figures.infs if tensor.kind == "parameter" else 0  # masks hold -inf on purpose
            if figures.nans or infs:
                last = tensor.provenance.last_write
                wrote = f", last written by {last.operation}" if last else ""
                yield self.finding(
                    tensor,
                    f"{figures.nans} NaN and {figures.infs} infinite of {figures.count} values{wrote}",
                    measured={"nan": figures.nans, "inf": figures.infs},
                    expected={"nan": 0, "inf": 0},
                    help="every value of a parameter has to be finite before training",
                )
