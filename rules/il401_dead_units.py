"""IL401 dead-units."""

from __future__ import annotations

from collections.abc import Iterator
from math import hypot
from typing import TYPE_CHECKING

from initlint import Example, Rule
from initlint.analysis.culprits import writers
from initlint.analysis.locations import told
from initlint.analysis.signal_path import spread, upstream
from initlint.theory import fraction_bound, never_positive

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding, Signal, Tensor


OUTWEIGHS = 8.0  # standard deviations: a normal value lies beyond once in 10^15


def bias_far_below_zero() -> nn.Module:
    from torch import nn

    hidden = nn.Linear(32, 64)
    nn.init.constant_(hidden.bias, -10)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(64, 4))


def single_unit(bias: float = -4.0) -> nn.Module:
    from torch import nn

    model = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1), nn.ReLU())
    nn.init.normal_(model[2].weight, std=0.02)  # type: ignore[arg-type]
    nn.init.constant_(model[2].bias, bias)  # type: ignore[arg-type]
    return model


def single_unit_by_chance() -> nn.Module:
    return single_unit(-0.1)


def negative_weights_on_positive_inputs() -> nn.Module:
    from torch import nn

    second = nn.Linear(64, 64)
    nn.init.uniform_(second.weight, -0.2, 0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), second, nn.ReLU(), nn.Linear(64, 4))


def threshold_above_the_signal() -> nn.Module:
    import torch
    from torch import nn

    class Thresholded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode = nn.Linear(32, 64, bias=False), nn.Linear(64, 4)
            self.threshold = nn.Parameter(torch.full((64,), 5.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.decode(torch.relu(self.encode(x) - self.threshold))
            return y

    return Thresholded()


def default_initialisation() -> nn.Module:
    from torch import nn

    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))


def squeeze_and_excitation() -> nn.Module:
    import torch
    from torch import nn

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 32, 3)
            self.gate = nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 32), nn.Sigmoid())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.relu(self.conv(x))
            gate: torch.Tensor = self.gate(hidden.mean((2, 3)))
            return hidden * gate[:, :, None, None]

    return Gated()


def zero_gain_of_the_last_norm() -> nn.Module:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            nn.init.zeros_(self.norm.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x + self.norm(self.conv(x)))

    return Block()


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 32, generator=torch.Generator().manual_seed(0))


def narrow_rectified_layer() -> nn.Module:
    import torch
    from torch import nn

    torch.manual_seed(6)
    layers = nn.Linear(32, 4), nn.Linear(4, 256), nn.Linear(256, 2)
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def two_images() -> torch.Tensor:
    import torch

    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class DeadUnits(Rule):
    """Rectified units that are zero for every input, more of them than chance leaves.

    A unit that is zero everywhere passes on no signal and receives no gradient: it stays as it is. When the
    whole layer is, nothing in front of it learns either.

    Start the bias at zero and draw the weights around zero. A few dead units are usual: how many a healthy
    layer has depends on the number of inputs, of their dimensions, and on how much they have in common,
    which is counted here.

    References:
        Lu, Shin, Su, Karniadakis, Dying ReLU and Initialization, 2019.
    """

    code = "IL401"
    name = "dead-units"
    severity = "warning"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {
        "uninitialized-memory": "upstream",
        "non-finite-parameter": "upstream",
        "dead-zero-init": "upstream",
        "constant-weight": "upstream",
        "dtype-underflow": "upstream",
        "norm-scale": "upstream",
        "running-stats": "upstream",
        "vanishing-signal": "upstream",
    }
    examples = (
        Example(bias_far_below_zero, finds=("0.bias",), inputs=batch),
        Example(single_unit, finds=("2.bias",), inputs=batch),
        Example(negative_weights_on_positive_inputs, finds=("2.weight",), inputs=batch),
        Example(threshold_above_the_signal, finds=("threshold",), inputs=batch),
        Example(single_unit_by_chance, inputs=batch),
        Example(default_initialisation, inputs=batch),
        Example(narrow_rectified_layer, inputs=batch),
        Example(squeeze_and_excitation, inputs=two_images),
        Example(zero_gain_of_the_last_norm, inputs=two_images),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        for signal in model.signals:
            before = upstream(model, signal)
            if not signal.dead_units or before is None or not _judged(model, before):
                continue
            dead, chance = signal.dead_units / signal.units, _chance(before, signal.shape[0])
            guilty = writers(model, before)
            every = signal.dead_units == signal.units
            shift = _outweighing(model, before) if every else None
            if (dead <= fraction_bound(chance, signal.units) and shift is None) or not guilty:
                continue
            share = "all" if every else f"{signal.dead_units} of"
            units = (
                f"{share} {signal.units} units behind it are" if signal.units > 1 else "the unit behind it is"
            )
            why = f"chance leaves {chance:.1%} of them"
            if shift is not None:
                why = f"the bias of {shift:.3g} outweighs all that its weights add to it"
            yield self.finding(
                guilty,
                f"{units} zero for every input ({signal.observations} values each); {why}",
                severity="error" if every else self.note_if_published(guilty),
                related=[signal.module] if signal.module else (),
                measured={"dead": dead, "pre-activation mean": before.forward.mean},
                expected={"dead": f"about {chance:.2g}", "pre-activation mean": "near 0"},
                help="start the threshold well below the size of what it is subtracted from"
                if _threshold(guilty[0])
                else "start the bias at zero and draw the weights around zero",
                locations=told([signal], guilty),
            )


def _outweighing(model: Evidence, before: Signal) -> float | None:
    """A constant bias below zero that no draw of the weights beside it would have made up for."""
    for tensor in model.named(before.weights):
        figures = tensor.statistics if tensor.use is not None and tensor.use.role == "shift" else None
        if figures is None or not figures.constant or figures.mean >= 0:
            continue
        drawn = hypot(before.forward.mean - figures.mean, before.forward.std)
        if -figures.mean > OUTWEIGHS * drawn:
            return figures.mean
    return None


def _threshold(tensor: Tensor) -> bool:
    return tensor.use is not None and tensor.use.operation == "aten.sub"


def _judged(model: Evidence, before: Signal) -> bool:
    """The layer is not zero on purpose, and what goes into it still differs between inputs."""
    given = upstream(model, before)
    return before.forward.absmax > 0 and (given is None or given.across_inputs is None or spread(given) > 0)


def _chance(before: Signal, inputs: int) -> float:
    """How often a unit of a healthy layer whose pre-activations vary as these do is never positive."""
    if before.across_inputs is None:
        return 0.5
    varying = before.across_inputs * before.forward.rms
    shared = max(before.forward.std**2 - varying**2, 0.0) ** 0.5
    return never_positive(shared, varying, inputs * before.independence)
