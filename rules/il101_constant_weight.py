"""IL101 constant-weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.remedies import redraw

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Weight


class ConstantWeight(Rule):
    """A weight whose values are all equal, and whose units stay equal in training.

    Units with equal weights compute the same output and receive the same gradient, so no step can tell
    them apart: the layer is one unit wide however long it trains. Where only the biases differ, or the
    targets of a readout, it starts with one direction of its input.

    Draw the weight from a distribution. Constants are right for biases, for gains of normalisations, and
    for weights whose units receive different gradients: a zero head, the last layer of a residual branch, a
    linear model that starts as an average.

    References:
        Goodfellow, Bengio, Courville, Deep Learning, 2016, section 8.4: initial parameters need to break
        the symmetry between units.
    """

    code = "IL101"
    name = "constant-weight"
    severity = "error"
    level = "value"
    needs = frozenset({"statistics", "graph", "probe", "confirmation"})
    explained_by = {"tiny-variance": "upstream"}

    def check(self, model: Evidence) -> Iterator[Finding]:
        stuck_sites = {weight.site for weight in model.weights if _stuck(weight)}
        for weight in sorted(model.weights, key=lambda weight: not _stuck(weight)):
            figures, settled = weight.statistics, weight.confirmation
            if settled is None or not figures.constant:
                continue
            if _stuck(weight):
                yield self.finding(
                    weight,
                    f"every value is {figures.mean:.3g}, and all {settled.units} units are still equal "
                    f"after {settled.steps} training steps",
                    measured={"value": figures.mean, "std": 0.0, "equal units": settled.stuck_units},
                    expected={"std": "above 0"},
                    help="draw the weight from a distribution, for example nn.init.kaiming_uniform_",
                    suggestion=redraw(weight),
                )
            elif figures.mean != 0 and settled.units > 1 and _shares_inputs(model, weight):
                yield self.finding(
                    weight,
                    f"every value is {figures.mean:.3g}: all {settled.units} units start with the sum of the "
                    f"same inputs, told apart by {_told_apart(weight)} at most",
                    measured={"value": figures.mean, "std": 0.0, "equal units": settled.units},
                    expected={"std": "above 0"},
                    help="draw the weight from a distribution, for example nn.init.kaiming_uniform_",
                    severity=None if weight.site in stuck_sites else "warning",
                    suggestion=redraw(weight),
                )


def _stuck(weight: Weight) -> bool:
    """All of its units are equal, and stay so although they learn."""
    settled = weight.confirmation
    return (
        weight.statistics.constant
        and settled is not None
        and settled.units > 1
        and settled.stuck_units == settled.units
        and not settled.zero_gradient
    )


def _shares_inputs(model: Evidence, weight: Weight) -> bool:
    """Several units sum the same inputs: no depth-wise kernel, no stack, no part of a computed weight."""
    use = weight.use
    if use.groups > 1 or use.fan_in is None or use.fan_in < 2:
        return False
    if use.reaches_output and not use.wiring.sources and use.depth < 2:
        return False  # of a linear model: the loss is convex in it, and each output has weights of its own
    for other in model.tensors if use.role != "recurrent" else ():
        if other is not weight and len(other.shape) > 1 and other.use and other.use.node == use.node:
            return False
    return any(weight.shape[axis] > 1 for axis in use.outputs)


def _told_apart(weight: Weight) -> str:
    if weight.use.role == "recurrent":
        return "their biases and the other weights of their gates"
    return "their targets" if weight.use.reaches_output else "their biases"
