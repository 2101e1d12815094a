"""IL410 gradient-underflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.locations import signal_locations

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class GradientUnderflow(Rule):
    """Gradients that are too small for half precision and become zero.

    float16 has nothing below 6e-8. What is lost there is lost however small the learning rate, and the
    parameter does not move.

    Scale the loss (torch.amp.GradScaler), train in bfloat16, or keep the signal of the layers behind it from
    getting so small.

    References:
        Micikevicius et al., Mixed Precision Training, 2018, section 3.2.
    """

    code = "IL410"
    name = "gradient-underflow"
    severity = "warning"
    level = "outcome"
    needs = frozenset({"graph", "probe"})
    explained_by = {
        "vanishing-signal": "anywhere",
        "vanishing-gradient": "anywhere",
        "saturated-activation": "anywhere",
        "dead-units": "anywhere",
        "tiny-variance": "anywhere",
        "huge-variance": "anywhere",
    }

    #: Share of a parameter's gradient that is lost: most of it.
    share: float = 0.5

    def check(self, model: Evidence) -> Iterator[Finding]:
        lost = [t for t in model.parameters if t.gradient is not None and t.gradient.underflow > self.share]
        if not lost:
            return
        worst = max(lost, key=lambda t: t.gradient.underflow if t.gradient is not None else 0.0)
        share = worst.gradient.underflow if worst.gradient is not None else 0.0
        signal = model.output_of(worst)
        yield self.finding(
            worst,
            f"{share:.0%} of its gradient is too small for float16 and becomes zero, "
            f"and so is most of the gradient of {len(lost) - 1} other parameters",
            related=[t.name for t in lost if t is not worst],
            measured={"lost": share, "parameters": len(lost)},
            expected={"lost": f"below {self.share:g}", "parameters": 0},
            help="scale the loss (torch.amp.GradScaler), or train in bfloat16",
            locations=signal_locations([signal] if signal is not None else [], [worst]),
        )
