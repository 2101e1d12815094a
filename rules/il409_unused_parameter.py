"""IL409 unused-parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class UnusedParameter(Rule):
    """A trainable parameter that no gradient reaches.

    It never changes; under DistributedDataParallel it also stops the first step. It is a warning where no
    code but the constructor names the parameter, a note where forward names or even uses it in vain.

    Use it in forward, or remove it. A parameter of a branch that this input does not take is fine.

    References:
        PyTorch documentation, DistributedDataParallel, find_unused_parameters.
    """

    code = "IL409"
    name = "unused-parameter"
    severity = "warning"
    needs = frozenset({"graph", "probe"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for parameter in model.parameters:
            gradient, origin = parameter.gradient, parameter.provenance
            if not parameter.requires_grad or not parameter.elements or gradient is None:
                continue
            if gradient.scale is not None or parameter.mention == "elsewhere":
                continue
            if parameter.use is not None:
                what = "takes part in the forward pass, but what it gives reaches no output with its gradient"
            elif parameter.mention == "forward":
                what = "is named in forward, but this run did not reach it"
            else:
                what = "takes no part in the forward pass, and no code outside its constructor names it"
            yield self.finding(
                parameter,
                f"{what}: no gradient arrives",
                measured={"gradients": 0},
                expected={"gradients": 1},
                severity="warning" if parameter.mention == "nowhere" else "note",
                help="use it in forward, or remove it",
                site=origin.construction if parameter.owner_package == "torch" else origin.allocation,
            )
