"""IL211 bias-before-norm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Signal, UsedTensor


class BiasBeforeNorm(Rule):
    """A bias right in front of a batch norm, where it has no effect.

    The norm subtracts the mean over the batch, and with it the bias: outputs do not depend on it, its
    gradient is zero but for rounding, and the norm has a shift of its own. It costs memory and a value in
    every optimiser state, and weight decay pulls at nothing.

    Make the layer with bias=False.

    References:
        Ioffe & Szegedy, Batch Normalization, 2015, section 3.2: the bias can be ignored.
    """

    code = "IL211"
    name = "bias-before-norm"
    severity = "note"
    needs = frozenset({"provenance", "statistics", "graph", "probe"})

    #: Gradient over that of the weight: rounding leaves 6e-8 of each of the terms, which cancel but for that.
    cancelled: float = 1e-3

    def check(self, model: Evidence) -> Iterator[Finding]:
        found = [bias for bias in model.used_parameters if self._is_taken_out(model, bias)]
        if found:
            yield self.finding(
                found,
                "the batch norm right behind subtracts it again: neither outputs nor gradients depend on it",
                measured={"biases": len(found)},
                expected={"biases": 0},
                help="bias=False in the layer",
            )

    def _is_taken_out(self, model: Evidence, bias: UsedTensor) -> bool:
        """A batch norm alone reads its sums, and no gradient comes back."""
        weight, added = model.weight_of(bias), model.output_of(bias)
        if weight is None or weight.use.role not in ("matrix", "kernel") or added is None:
            return False
        readers = [signal for signal in model.signals if added.node in signal.sources]
        if added.leaves or len(readers) != 1 or not _subtracts_the_mean(model, readers[0]):
            return False
        own, beside = bias.gradient, weight.gradient
        if own is None or own.scale is None or beside is None or beside.scale is None:
            return False
        return own.scale.rms <= self.cancelled * beside.scale.rms


def _subtracts_the_mean(model: Evidence, norm: Signal) -> bool:
    """It is a batch norm in training mode: one that has averages has moved them."""
    average = model.by_name.get(f"{norm.module}.running_mean".lstrip("."))
    return norm.function == "batch_norm" and (average is None or average.updated)
