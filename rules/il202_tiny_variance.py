"""IL202 tiny-variance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule, theory
from initlint.analysis import symptoms
from initlint.analysis.families import is_written_with_head
from initlint.analysis.remedies import redraw
from initlint.analysis.sums import drowned_branches

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class TinyVariance(Rule):
    """A weight matrix so small that next to nothing of the signal passes it.

    Outputs of n inputs and weights of standard deviation σ are σ·√n times as large as the inputs. Far below
    1, with no normalisation to restore the scale, all that follows hardly depends on the input, and all
    that comes before hardly receives a gradient.

    Draw the weight with a standard deviation of gain/√fan_in. A small value is right for the last layer, for
    the end of a residual branch, and for a gate that its bias holds open.

    References:
        Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
        He et al., Delving Deep into Rectifiers, 2015, section 2.2, https://arxiv.org/abs/1502.01852
    """

    code = "IL202"
    name = "tiny-variance"
    severity = "warning"
    level = "scale"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {"constant-weight": "same"}

    #: Expected std over std: matrices of std 0.02 with two inputs, the narrowest in use, reach 53.
    ratio: float = 64.0
    #: Standard deviations from here on are in use at every width: 0.02 in front of SiLU, one input, gives 84.
    usual: float = 0.01
    #: What fan-in 40 000 calls for: above it, published values suit the published sizes, if not these.
    fitting: float = 0.005

    #: One summand over another, and likewise what their weights multiply by: published sums of two branches
    #: that are drawn apart reach 10.
    lost: float = 30.0

    def check(self, model: Evidence) -> Iterator[Finding]:
        yield from self._alone(model)
        yield from self._summands(model)

    def _alone(self, model: Evidence) -> Iterator[Finding]:
        for weight in model.weights:
            use, figures = weight.use, weight.statistics
            if not use.fan_in or figures.constant:
                continue
            if use.reaches_output or use.ends_residual or figures.std >= self.usual:
                continue
            if is_written_with_head(model, weight) or symptoms.is_held_open(model, weight):
                continue
            expected = theory.expected_std(use.fan_in, use.activation)
            seen = symptoms.of_scale(model, weight, expected, ratio=self.ratio, large=False)
            if seen is None:
                continue
            times = expected / figures.std
            fitting = weight.published and figures.std > self.fitting
            yield self.finding(
                weight,
                f"std {figures.std:.3g} is {times:.3g} times smaller than fan-in {use.fan_in} calls for; "
                f"{seen.text}",
                severity="note" if fitting else None,
                measured={"std": figures.std, seen.figure: seen.value},
                expected={"std": expected},
                help=f"draw it with a std of about {expected:.3g}, for example by nn.init.kaiming_normal_",
                suggestion=redraw(weight),
            )

    def _summands(self, model: Evidence) -> Iterator[Finding]:
        """Branches that are lost in a sum with another one, of a weight that was drawn larger."""
        for mine, small, other, large in drowned_branches(model, self.lost):
            yield self.finding(
                mine,
                f"its output of rms {small:.3g} is added to that of {other.name}, of rms {large:.3g}, "
                "and lost in it",
                measured={"std": mine.statistics.std, "summand": small},
                expected={"std": other.statistics.std, "summand": large},
                help="draw both branches at one scale",
                locations=[Location(other.site, f"{other.name} is drawn here")] if other.site else (),
            )
