"""IL203 huge-variance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule, theory
from initlint.analysis import symptoms
from initlint.analysis.remedies import redraw

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Use


class HugeVariance(Rule):
    """A weight matrix far larger than its number of inputs allows, and a signal that shows it.

    Outputs of n inputs and weights of standard deviation σ are σ·√n times as large as the inputs. Far above
    1 they saturate the activation, make confident guesses of the first logits, or outgrow everything that
    they are added to, and training has to shrink them before it can learn.

    Draw the weight with a standard deviation of gain/√fan_in: nn.init.kaiming_normal_ in front of ReLU,
    nn.init.xavier_uniform_ in front of tanh. A std of 1 suits lookup tables, not matrices.

    References:
        Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
        He et al., Delving Deep into Rectifiers, 2015, section 2.2, https://arxiv.org/abs/1502.01852
    """

    code = "IL203"
    name = "huge-variance"
    severity = "warning"
    level = "scale"
    needs = frozenset({"statistics", "graph", "probe"})

    #: Std over the expected one: squeeze layers of published models reach 5 (fan_out of an 1/24 squeeze).
    ratio: float = 6.0

    def check(self, model: Evidence) -> Iterator[Finding]:
        for weight in model.weights:
            use, figures = weight.use, weight.statistics
            if not use.fan_in or use.lookup_too or _waves(use):
                continue
            # A constant behind the product, as in scaled dot products, takes part of the scale away.
            shrunk = min(abs(use.wiring.factor or 1.0), 1.0)
            expected = theory.expected_std(use.fan_in, use.activation) / shrunk
            seen = symptoms.of_scale(model, weight, expected, ratio=self.ratio, large=True)
            if seen is None:
                continue
            yield self.finding(
                weight,
                f"std {figures.std:.3g} is {figures.std / expected:.3g} times what fan-in {use.fan_in} calls "
                f"for; {seen.text}",
                measured={"std": figures.std, seen.figure: seen.value},
                expected={"std": expected},
                help=f"draw it with a std of about {expected:.3g}, for example by nn.init.kaiming_normal_",
                suggestion=redraw(weight),
            )


def _waves(use: Use) -> bool:
    """Frequencies of the model's inputs, which sines and cosines are made of: a spread that is chosen."""
    return use.activation in ("sin", "cos") and not use.wiring.sources
