"""IL408 non-finite-signal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.culprits import writers
from initlint.analysis.locations import signal_locations

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Scale, Signal

UNMASKED = frozenset({"weight", "norm", "add", "output"})


class NonFiniteSignal(Rule):
    """A module whose output or gradient is NaN or infinite although its input is finite.

    Everything after it in the forward pass, and before it in the backward pass, is lost in the first step.

    Look at the first operation named here: a division by a norm of zero, a logarithm or exponential of an
    extreme value, a softmax over a fully masked row, a value beyond the range of the dtype.
    """

    code = "IL408"
    name = "non-finite-signal"
    severity = "error"
    level = "signal"
    needs = frozenset({"probe"})
    explained_by = {
        "uninitialized-memory": "anywhere",
        "non-finite-parameter": "anywhere",
        "repeated-init": "anywhere",
    }

    def check(self, model: Evidence) -> Iterator[Finding]:
        for signal in model.signals:
            if _broken(signal.forward) or _overflowed(signal):
                yield self._report(model, signal, "output", signal.forward)
                return
        for signal in reversed(model.signals):
            if signal.backward is not None and _broken(signal.backward):
                yield self._report(model, signal, "gradient", signal.backward)
                return

    def _report(self, model: Evidence, signal: Signal, what: str, scale: Scale) -> Finding:
        where = f"in {signal.operation}" if not signal.module else f"in {signal.module} ({signal.operation})"
        guilty = writers(model, signal)
        return self.finding(
            guilty[0] if guilty and not signal.module else signal,
            f"the first {what} that is not finite: {scale.nans} NaN and {scale.infs} infinite values {where}",
            related=dict.fromkeys((*signal.weights, *(t.name for t in guilty))),
            site=signal.site,
            measured={"nan": scale.nans, "inf": scale.infs},
            expected={"nan": 0, "inf": 0},
            help="look at the operation's inputs: a zero norm, an overflow, a fully masked softmax row",
            locations=signal_locations([], guilty),
        )


def _broken(scale: Scale) -> bool:
    """NaN is never meant; infinities are, as masks of attention scores."""
    return scale.nans > 0


def _overflowed(signal: Signal) -> bool:
    """Infinities that are no mask: of sums and outputs only those above zero are counted."""
    return signal.forward.infs > 0 and (signal.kind in UNMASKED or signal.function == "exp")
