"""IL110 scalar-constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis import symptoms
from initlint.analysis.recipes.adapters import branch
from initlint.analysis.recipes.similarity import effective

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Severity, Tensor, Use, UsedTensor


class ScalarConstant(Rule):
    """A learned scale or temperature far from any convention for its use.

    One factor multiplies a whole layer: with a wrong constant, often the value in place of its logarithm or
    inverse, the softmax behind it starts one-hot or flat, or a branch drowns the stream it is added to.

    Start where the method starts, and apply exp, softplus or a division only to the form that is stored.

    References:
        Radford et al., CLIP, 2021, section 2.5: logits are never scaled by more than 100.
        Touvron et al., Going deeper with Image Transformers, 2021, table 1: LayerScale 0.1 to 1e-6.
    """

    code = "IL110"
    name = "scalar-constant"
    severity = "note"
    level = "comparison"
    needs = frozenset({"statistics", "graph", "probe"})

    largest: float = 100.0  #: CLIP clips its logit scale here; ArcFace takes 64
    largest_branch: float = 10.0  #: residual branches are scaled by at most 1 in every published scheme
    smallest: float = 0.001  #: of attention scores: 1/√d is that small for heads of a million features

    def check(self, model: Evidence) -> Iterator[Finding]:
        for tensor in model.used_parameters:
            use, figures = tensor.use, tensor.statistics
            if not figures.constant or not _is_factor(tensor, use):
                continue
            inverted = any(step.operation == "reciprocal" for step in use.wiring.steps)
            if inverted and figures.mean == 0:
                yield self._report(tensor, "divides by zero", float("inf"), f"below {self.largest:g}")
                continue
            scale = effective(figures.mean + (use.offset or 0.0), use.wiring.steps)
            if scale is None:
                continue
            most = self.largest_branch if use.ends_residual else self.largest
            scores = use.activation == "softmax" and not use.ends_residual
            if abs(scale) > most:
                flat = use.wiring.cosine and symptoms.has_hard_softmax(model, tensor)
                what = f"multiplies by {scale:.3g}" + (", which makes the softmax hard" if flat else "")
                yield self._report(tensor, what, scale, f"below {most:g}", "warning" if flat else None)
            elif (
                scores
                and abs(scale) > 1
                and not use.wiring.cosine
                and symptoms.has_hard_softmax(model, tensor)
            ):
                what = f"multiplies the scores of a softmax by {scale:.3g}, which makes it hard"
                yield self._report(tensor, what, scale, "below 1, often 1/√d", "warning")
            elif scores and abs(scale) < self.smallest and branch(model, tensor) is None:
                what = f"multiplies the scores of a softmax by {scale:.3g}"
                yield self._report(tensor, what, scale, f"above {self.smallest:g}")

    def _report(
        self, tensor: UsedTensor, what: str, scale: float, expected: str, severity: Severity | None = None
    ) -> Finding:
        steps, stored = tensor.use.wiring.steps, tensor.statistics.mean
        through = f" through {', '.join(step.operation for step in steps)}" if steps else ""
        return self.finding(
            tensor,
            f"{stored:.3g}{through} {what}",
            measured={"scale": scale},
            expected={"scale": expected},
            help="check whether the value, its logarithm or its inverse is to be stored",
            severity=severity,
        )


def _is_factor(tensor: Tensor, use: Use) -> bool:
    """The tensor multiplies or divides data, not inside a function that makes another scale of it."""
    factor = use.operation in ("aten.mul", "aten.multiply", "aten.div", "aten.divide", "aten.true_divide")
    return factor and use.role == "scalar" and use.activation not in ("exp", "sin", "cos")
