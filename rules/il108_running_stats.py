"""IL108 running-stats."""

from __future__ import annotations

from collections.abc import Iterator
from math import hypot, isinf
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.locations import callers
from initlint.analysis.remedies import fill
from initlint.analysis.running_averages import divisors, has_counter, neutral_start, outdated_copies

if TYPE_CHECKING:
    from initlint import Coupling, Evidence, Finding, Statistics, Tensor

DRAWING = frozenset({"rand", "randn"})


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
    #: What enters a layer over what the signal was before, where a buffer of zeros is divided by.
    blown_up: float = 100.0
    #: Relative distance of means from sums / counts at the start.
    disagreement: float = 0.1

    def check(self, model: Evidence) -> Iterator[Finding]:
        yield from self._started(model)
        yield from self._divided(model)
        yield from (self._uncoupled(c, model) for c in model.couplings if c.disagreement > self.disagreement)
        yield from self._outdated(model)

    def _started(self, model: Evidence) -> Iterator[Finding]:
        for buffer in model.buffers:
            figures, start = buffer.statistics, neutral_start(model, buffer)
            if figures is None or start is None or figures.nans or buffer.provenance.unwritten:
                continue
            if (start == 1 and figures.minimum < 0) or self._departs(model, buffer, figures, start):
                spread = f" to {figures.maximum:.3g}" if not figures.constant else ""
                yield self.finding(
                    buffer,
                    f"a running {'variance' if start else 'mean'} starts at {figures.minimum:.3g}{spread}",
                    measured={"minimum": figures.minimum, "maximum": figures.maximum},
                    expected={"minimum": start, "maximum": start},
                    help=f"start it at {start:g}",
                    suggestion=fill(buffer, start),
                    locations=callers(last) if (last := buffer.provenance.last_write) is not None else (),
                )

    def _departs(self, model: Evidence, buffer: Tensor, figures: Statistics, start: float) -> bool:
        if figures.constant:
            corrected = figures.mean == 0 and has_counter(model, buffer)
            return figures.mean != start and not corrected
        last = buffer.provenance.last_write
        draws = last is not None and (last.via == "initialiser" or last.function in DRAWING)
        drawn = last is not None and last.kind == "random" and draws
        return drawn and hypot(figures.mean - start, figures.std) > self.distance

    def _divided(self, model: Evidence) -> Iterator[Finding]:
        for buffer, factor in divisors(model):
            if factor > self.blown_up:
                much = "is not finite" if isinf(factor) else f"comes out {factor:.3g} times larger"
                yield self.finding(
                    buffer,
                    f"starts at 0, and the signal is divided by it: it {much}",
                    measured={"value": 0.0, "growth": factor},
                    expected={"value": "a variance or scale of 1"},
                    help="start it so that the division leaves the signal as it is",
                )

    def _uncoupled(self, coupling: Coupling, model: Evidence) -> Finding:
        nothing = isinf(coupling.disagreement)
        return self.finding(
            model.by_name[coupling.sums],
            f"{coupling.means} is recomputed as {coupling.sums} / {coupling.counts}, which at the start "
            + ("divides by zero" if nothing else f"is off by {coupling.disagreement:.3g} of its size")
            + f": the first training step changes its norm by a factor of {coupling.jump:.3g}",
            measured={"disagreement": coupling.disagreement},
            expected={"disagreement": 0.0},
            help=f"start {coupling.sums} at {coupling.means} × {coupling.counts}",
            related=[coupling.counts, coupling.means],
            locations=[
                Location(last.site, f"{name} written by {last.operation}")
                for name in (coupling.means, coupling.counts)
                if (last := model.by_name[name].provenance.last_write) is not None
            ],
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
