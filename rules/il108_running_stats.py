"""IL108 running-stats."""

from __future__ import annotations

from collections.abc import Iterator
from math import isinf
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.locations import callers, last_writes
from initlint.analysis.remedies import fill
from initlint.analysis.running_averages import astray, divisors, outdated_copies

if TYPE_CHECKING:
    from initlint import Coupling, Evidence, Finding


class RunningStats(Rule):
    """Running statistics that do not start where their updates expect them.

    Before the estimates have warmed up, evaluation divides by the root of the running variance: zeros make
    that a factor of 1/√eps, negative values NaN. A moving average that was copied before the weights were
    drawn pulls back to values that no model had. Where one buffer is recomputed from two others (means from
    sums and counts), buffers that disagree at the start throw the first away with the first update.

    Start means at zero, variances and deviations at one, and sums at means × counts.

    References:
        Ioffe and Szegedy, Batch Normalization, 2015, section 3.1. van den Oord et al., Neural Discrete
        Representation Learning, 2017, appendix A.1: means are sums divided by counts.
    """

    code = "IL108"
    name = "running-stats"
    severity = "error"
    level = "normalisation"
    needs = frozenset({"statistics", "probe"})

    #: Root mean square distance from zero (means) or one (variances) of drawn values.
    distance: float = 0.5
    #: What enters a layer over what the signal was before it was divided by a buffer of zeros.
    blown_up: float = 100.0
    #: Relative distance of means from sums / counts at the start.
    disagreement: float = 0.1

    def check(self, model: Evidence) -> Iterator[Finding]:
        yield from self._started(model)
        yield from self._divided(model)
        yield from (self._uncoupled(c, model) for c in model.couplings if c.disagreement > self.disagreement)
        yield from self._outdated(model)

    def _started(self, model: Evidence) -> Iterator[Finding]:
        for buffer, figures, start in astray(model, self.distance):
            spread = f" to {figures.maximum:.3g}" if not figures.constant else ""
            yield self.finding(
                buffer,
                f"a running {'variance' if start else 'mean'} starts at {figures.minimum:.3g}{spread}",
                measured={"minimum": figures.minimum, "maximum": figures.maximum},
                expected={"minimum": start, "maximum": start},
                help=f"start it at {start:g}",
                suggestion=fill(buffer, start),
                locations=callers(buffer.provenance.last_write),
            )

    def _divided(self, model: Evidence) -> Iterator[Finding]:
        for buffer, factor in divisors(model, self.blown_up):
            much = "is not finite" if isinf(factor) else f"comes out {factor:.3g} times larger"
            yield self.finding(
                buffer,
                f"starts at 0, and the signal is divided by it: it {much}",
                measured={"value": 0.0, "growth": factor},
                expected={"value": "a variance or scale of 1"},
                help="start it so that the division leaves the signal as it is",
            )

    def _uncoupled(self, coupling: Coupling, model: Evidence) -> Finding:
        off = f"is off by {coupling.disagreement:.3g} of its size"
        return self.finding(
            model.by_name[coupling.sums],
            f"{coupling.means} is recomputed as {coupling.sums} / {coupling.counts}, which at the start "
            f"{'divides by zero' if isinf(coupling.disagreement) else off}"
            f": the first training step changes its norm by a factor of {coupling.jump:.3g}",
            measured={"disagreement": coupling.disagreement},
            expected={"disagreement": 0.0},
            help=f"start {coupling.sums} at {coupling.means} × {coupling.counts}",
            related=[coupling.counts, coupling.means],
            locations=last_writes(model.named((coupling.means, coupling.counts))),
        )

    def _outdated(self, model: Evidence) -> Iterator[Finding]:
        for copy, weight, write, std, current in outdated_copies(model):
            yield self.finding(
                (copy, weight),
                f"a copy of {weight.name} that was made before {write.operation} wrote it again",
                measured={"std": std},
                expected={"std": current},
                help="copy the weights after they are initialised",
                severity="warning",
                locations=[Location(write.site, f"{weight.name} written by {write.operation}")],
            )
