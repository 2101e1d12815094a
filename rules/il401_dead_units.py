"""IL401 dead-units."""

from __future__ import annotations

from collections.abc import Iterator
from math import hypot
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.culprits import writers
from initlint.analysis.locations import signal_locations
from initlint.analysis.signal_path import chance_of_dead, is_used, still_differs, upstream
from initlint.theory import fraction_bound

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Signal, Tensor


OUTWEIGHS = 8.0  # standard deviations: a normal value lies beyond once in 10^15


class DeadUnits(Rule):
    """Rectified units that are zero for every input, more of them than chance leaves.

    A unit that is zero everywhere passes on no signal and receives no gradient: it stays as it is. When the
    whole layer is, nothing in front of it learns either.

    Start the bias at zero and draw the weights around zero. A few dead units are usual: how many a healthy
    layer has depends on the number of inputs, of their dimensions, and on how much they have in common,
    which is counted here.

    References:
        Lu, Shin, Su, Karniadakis, Dying ReLU and Initialization, 2019.
    """

    code = "IL401"
    name = "dead-units"
    severity = "warning"
    level = "signal"
    published = "note"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {
        "dead-zero-init": "upstream",
        "constant-weight": "upstream",
        "dtype-underflow": "upstream",
        "vanishing-signal": "upstream",
    }

    def check(self, model: Evidence) -> Iterator[Finding]:
        for signal in model.signals:
            before = upstream(model, signal)
            if not signal.dead_units or before is None or not still_differs(model, before):
                continue
            dead, chance = signal.dead_units / signal.units, chance_of_dead(before, signal.shape[0])
            guilty = writers(model, before)
            every = signal.dead_units == signal.units
            shift = _outweighing(model, before) if every else None
            if (dead <= fraction_bound(chance, signal.units) and shift is None) or not guilty:
                continue
            share = "all" if every else f"{signal.dead_units} of"
            units = (
                f"{share} {signal.units} units behind it are" if signal.units > 1 else "the unit behind it is"
            )
            why = f"chance leaves {chance:.1%} of them"
            if shift is not None:
                why = f"the bias of {shift:.3g} outweighs all that its weights add to it"
            yield self.finding(
                guilty,
                f"{units} zero for every input ({signal.observations} values each); {why}",
                severity="error" if every else None,
                related=[signal.module] if signal.module else (),
                measured={"dead": dead, "pre-activation mean": before.forward.mean},
                expected={"dead": f"about {chance:.2g}", "pre-activation mean": "near 0"},
                help="start the threshold well below the size of what it is subtracted from"
                if _threshold(guilty[0])
                else "start the bias at zero and draw the weights around zero",
                locations=signal_locations([signal], guilty),
            )


def _outweighing(model: Evidence, before: Signal) -> float | None:
    """A constant bias below zero that no draw of the weights beside it would have made up for."""
    for tensor in model.named(before.weights):
        if not is_used(tensor) or tensor.use.role != "shift":
            continue
        figures = tensor.statistics
        if not figures.constant or figures.mean >= 0:
            continue
        drawn = hypot(before.forward.mean - figures.mean, before.forward.std)
        if -figures.mean > OUTWEIGHS * drawn:
            return figures.mean
    return None


def _threshold(tensor: Tensor) -> bool:
    return tensor.use is not None and tensor.use.operation == "aten.sub"
