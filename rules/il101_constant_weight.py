"""IL101 constant-weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Example, Rule
from initlint.analysis.remedies import redraw

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding, Tensor


def filled_with_one_value() -> nn.Module:
    from torch import nn

    hidden, readout = nn.Linear(8, 16), nn.Linear(16, 4)
    for layer in (hidden, readout):
        nn.init.constant_(layer.weight, 0.1)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(hidden, nn.Tanh(), readout)


def filled_beside_random_biases() -> nn.Module:
    from torch import nn

    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    nn.init.constant_(model[0].weight, 0.1)  # type: ignore[arg-type]
    return model


def filled_readout() -> nn.Module:
    from torch import nn

    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    nn.init.ones_(model[2].weight)  # type: ignore[arg-type]
    return model


def filled_stack() -> nn.Module:
    import torch
    from torch import nn

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Parameter(torch.full((3, 8, 16), 0.1))
            self.readout = nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.einsum("bi,eij->bej", x, self.weights).tanh().sum(1)
            logits: torch.Tensor = self.readout(hidden)
            return logits

    return Experts()


def scale_of_noise_on_a_readout() -> nn.Module:
    import torch
    from torch import nn

    class Noisy(nn.Module):
        noise: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.randn(4, 8) / 4)
            self.spread = nn.Parameter(torch.full((4, 8), 0.1))
            self.register_buffer("noise", torch.zeros(4, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.mean + self.spread * self.noise)

    return Noisy()


def zero_head() -> nn.Module:
    from torch import nn

    head = nn.Linear(16, 4)
    nn.init.zeros_(head.weight)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), head)


def moving_average() -> nn.Module:
    from torch import nn

    model = nn.Linear(8, 4)
    nn.init.constant_(model.weight, 1 / 8)
    return model


def single_unit() -> nn.Module:
    from torch import nn

    model = nn.Linear(8, 1)
    nn.init.constant_(model.weight, 0.1)
    return model


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


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
    needs = frozenset({"statistics", "graph", "probe", "confirmation"})
    explained_by = {"overwritten-init": "same", "tiny-variance": "upstream"}
    examples = (
        Example(filled_with_one_value, finds=("0.weight",), inputs=batch),
        Example(filled_beside_random_biases, finds=("0.weight",), inputs=batch),
        Example(filled_readout, finds=("2.weight",), inputs=batch),
        Example(filled_stack, finds=("weights",), inputs=batch),
        Example(scale_of_noise_on_a_readout, inputs=batch),
        Example(zero_head, inputs=batch),
        Example(moving_average, inputs=batch),
        Example(single_unit, inputs=batch),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        stuck_sites = {weight.site for weight in model.weights if _stuck(weight)}
        for weight in sorted(model.weights, key=lambda weight: not _stuck(weight)):
            figures, settled = weight.statistics, weight.confirmation
            if figures is None or settled is None or not figures.constant:
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


def _stuck(weight: Tensor) -> bool:
    """All of its units are equal, and stay so although they learn."""
    figures, settled = weight.statistics, weight.confirmation
    return (
        figures is not None
        and figures.constant
        and settled is not None
        and settled.units > 1
        and settled.stuck_units == settled.units
        and not settled.zero_gradient
    )


def _shares_inputs(model: Evidence, weight: Tensor) -> bool:
    """Several units sum the same inputs: no depth-wise kernel, no stack, no part of a computed weight."""
    use = weight.use
    if use is None or use.groups > 1 or use.fan_in is None or use.fan_in < 2:
        return False
    if use.reaches_output and not use.wiring.sources and use.depth < 2:
        return False  # of a linear model: the loss is convex in it, and each output has weights of its own
    for other in model.tensors if use.role != "recurrent" else ():
        if other is not weight and len(other.shape) > 1 and other.use and other.use.node == use.node:
            return False
    return any(weight.shape[axis] > 1 for axis in use.outputs)


def _told_apart(weight: Tensor) -> str:
    if weight.use is not None and weight.use.role == "recurrent":
        return "their biases and the other weights of their gates"
    return "their targets" if weight.use is not None and weight.use.reaches_output else "their biases"
