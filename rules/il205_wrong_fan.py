"""IL205 wrong-fan."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis import symptoms
from initlint.analysis.fans import NAMES, misreading

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Weight
    from initlint.analysis.fans import Misreading


TOLERANCE = 1.25  # inputs are not quite independent: a layer may amplify more or less than std·√fan_in


class WrongFan(Rule):
    """A weight whose scale was computed from a number of inputs that it does not have.

    The std of a weight is gain/√fan_in, with fan_in the number of products that are summed into one output.
    torch.nn.init reads it off the shape as dimension 1 times all further ones. A weight used as x @ W, a
    stack of matrices, a grouped or transposed convolution, fused projections have another fan.

    Compute the std from the true fan, or draw on a view of the right shape: W.t() for x @ W, each matrix of
    a stack, each of the fused matrices. It is a note where nothing in the signal shows it, behind a
    normalisation for example.

    References:
        He et al., Delving Deep into Rectifiers, 2015, section 2.2, https://arxiv.org/abs/1502.01852
        torch.nn.init._calculate_fan_in_and_fan_out: "the tensor is used as x @ w.T".
    """

    code = "IL205"
    name = "wrong-fan"
    severity = "warning"
    level = "draw"
    needs = frozenset({"provenance", "statistics", "graph", "probe"})

    #: Std over the right one, either way: xavier over three fused square projections is off by √2, over two
    #: that widen by 8/3 (SwiGLU) by 1.31.
    ratio: float = 1.3
    #: From here on a signal that nothing restores is off visibly (a fan four times too large or too small).
    visible: float = 1.9

    def check(self, model: Evidence) -> Iterator[Finding]:
        for weight in model.weights:
            wrong = misreading(model, weight)
            if wrong is None or max(wrong.ratio, 1 / wrong.ratio) < self.ratio:
                continue
            shows, off = self._shows(model, weight, wrong), wrong.ratio
            if not shows and wrong.by != "call" and weight.use.reaches_output:
                continue  # 1/√fan_out is a known scale of a head
            fan = f"{NAMES[wrong.mode]} {wrong.true:.6g}"
            amount = f"{off:.3g} times too large" if off > 1 else f"{1 / off:.3g} times too small"
            yield self.finding(
                weight,
                f"{wrong.text}, but this weight is used with {fan}: its outputs are {amount}",
                measured={"fan": wrong.fan, "std": weight.statistics.std},
                expected={"fan": wrong.true, "std": wrong.gain / sqrt(wrong.true)},
                help=f"draw it with a std of {wrong.gain / sqrt(wrong.true):.3g}, computed from {fan}",
                severity=None if shows else "note",
            )

    def _shows(self, model: Evidence, weight: Weight, wrong: Misreading) -> bool:
        """The signal is off as the fan is, and no normalisation corrects it."""
        if max(wrong.ratio, 1 / wrong.ratio) < self.visible or symptoms.is_discrete(model, weight):
            return False
        if symptoms.of_excess(model, weight) if wrong.ratio > 1 else symptoms.of_lack(model, weight):
            return True
        factor = symptoms.amplification(model, weight)
        if factor is None or symptoms.is_restored(model, weight):
            return False
        if weight.use.reaches_output and wrong.by != "call":
            return False
        off = factor / wrong.gain
        return off > self.visible / TOLERANCE if wrong.ratio > 1 else off < TOLERANCE / self.visible
