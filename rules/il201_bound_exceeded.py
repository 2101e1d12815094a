"""IL201 bound-exceeded."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose
from typing import TYPE_CHECKING

from initlint import Rule, theory

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Tensor, Weight


class BoundExceeded(Rule):
    """A weight outside the range that its initialisation allows.

    A single value far outside the rest decides its unit's output whatever the input, and receives the same
    small steps as all others, so that it stays. It comes from a write to one place, from a truncated draw
    whose bounds are far out, or from memory that was partly written.

    Look at what wrote the value; clamp or redraw it. With the option `bound = "uniform"` every weight has
    to lie in [-1/√n, 1/√n], n its number of inputs: the range of PyTorch's own Linear and Conv layers.

    References:
        LeCun et al., Efficient BackProp, 1998, section 4.6: weights of the order of 1/√n.
    """

    code = "IL201"
    name = "bound-exceeded"
    severity = "warning"
    level = "comparison"
    needs = frozenset({"provenance", "statistics", "graph"})

    #: "scheme": what the recognised initialisation gives at this size; "uniform": exactly [-1/√n, 1/√n].
    bound: str = "scheme"
    #: Std from which a single value stands out: 0.1 % of published tensors hold one, nearly all by mistake.
    outlier: float = 12.0

    def check(self, model: Evidence) -> Iterator[Finding]:
        for weight in model.weights:
            found = self._beyond_uniform(weight) if self.bound == "uniform" else self._beyond_scheme(weight)
            if found is not None:
                yield found

    def _beyond_uniform(self, weight: Weight) -> Finding | None:
        use, figures = weight.use, weight.statistics
        if not use.fan_in:
            return None
        limit = theory.default_bound(use.fan_in)
        if figures.absmax <= limit * (1 + ROUNDING):
            return None
        return self.finding(
            weight,
            f"values reach {figures.absmax:.3g}, outside ±{limit:.3g} = ±1/√{use.fan_in}",
            measured={"largest": figures.absmax},
            expected={"largest": limit},
            help=f"draw it with nn.init.uniform_(weight, -{limit:.3g}, {limit:.3g})",
        )

    def _beyond_scheme(self, weight: Weight) -> Finding | None:
        figures, scheme = weight.statistics, weight.scheme
        if scheme is None or scheme.fit != "bulk" or not scheme.std:
            return None
        limit = max(theory.largest(figures.count) * scheme.std, scheme.bound or 0.0)
        if figures.absmax <= max(limit, self.outlier * scheme.std):
            return None
        cut = _cut(weight, figures.absmax)
        return self.finding(
            weight,
            f"single values reach {figures.absmax:.3g}, {figures.absmax / scheme.std:.3g} times the std of "
            f"the rest, which fits {scheme.text}{', and lie on the bound of its draw' if cut else ''}",
            measured={"largest": figures.absmax},
            expected={"largest": limit if scheme.bound is None else scheme.bound},
            help="give the draw the bounds that were meant, as multiples of its std"
            if cut
            else "look at what wrote these values",
            severity="note" if cut else None,
        )


ROUNDING = 1e-2  # relative: bfloat16 rounds by up to 0.4 %


def _cut(weight: Tensor, largest: float) -> bool:
    """The values lie on the bounds of a truncated draw: samplers put there what rounding sent outside."""
    ends: list[float] = []
    for write in weight.provenance.writes:
        factor, name = write.arguments.get("other"), write.function
        if write.replaces:
            bounds = (write.arguments.get(key) for key in ("a", "b"))
            ends = [abs(b) for b in bounds if isinstance(b, int | float)]
        elif isinstance(factor, int | float) and factor and name in ("mul_", "div_"):
            ends = [end * factor if name == "mul_" else end / factor for end in ends]
    return any(isclose(end, largest, rel_tol=ROUNDING) for end in ends)
