"""IL308 unregistered-parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.locations import holder, origin, registration

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class UnregisteredParameter(Rule):
    """A tensor that requires a gradient and takes part in forward, but is not registered.

    nn.Module registers an nn.Parameter that is assigned to an attribute, and nothing else. A parameter
    in a plain container is hidden; so is the product of one: `nn.Parameter(w) * 0.1` and
    `nn.Parameter(w).to(device)` are tensors computed from a parameter that nobody keeps.

    Assign the nn.Parameter itself, with its final values, or use nn.ParameterList or nn.ParameterDict.

    References:
        PyTorch documentation, nn.Parameter and nn.ParameterDict.
    """

    code = "IL308"
    name = "unregistered-parameter"
    severity = "error"
    needs = frozenset({"provenance", "graph", "probe"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for item in model.unregistered:
            if item.kind != "parameter" or not item.trainable or not item.reached:
                continue
            yield self.finding(
                item.path,
                f"requires a gradient and takes part in forward, but {holder(item)} holds it: "
                f"its {item.elements} values are not in model.parameters()",
                measured={"registered": 0},
                expected={"registered": 1},
                help=f"register it: {registration(item)}",
                site=item.site,
                locations=origin(item),
            )
