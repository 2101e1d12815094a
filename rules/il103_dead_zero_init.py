"""IL103 dead-zero-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Example, Location, Rule
from initlint.analysis.frozen import frozen_zeros
from initlint.analysis.outliers import emptied
from initlint.analysis.remedies import redraw

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from initlint import Evidence, Finding, Tensor


def both_lora_factors_zero() -> nn.Module:
    import torch
    from torch import nn

    class LoRA(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(8, 8)
            self.down = nn.Parameter(torch.zeros(2, 8))
            self.up = nn.Parameter(torch.zeros(8, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            base: torch.Tensor = self.base(x)
            return base + x @ self.down.T @ self.up.T

    return LoRA()


def zero_branch_behind_a_zero_gate(*, gate: float = 0.0) -> nn.Module:
    import torch
    from torch import nn

    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 8)
            self.gate = nn.Parameter(torch.full((8,), gate))
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            branch: torch.Tensor = self.outer(torch.relu(self.inner(x)))
            return x + self.gate * branch

    return Branch()


def zero_branch_behind_an_open_gate() -> nn.Module:
    return zero_branch_behind_a_zero_gate(gate=1.0)


def zeros_into_relu() -> nn.Module:
    from torch import nn

    hidden = nn.Linear(8, 16)
    nn.init.zeros_(hidden.weight)
    nn.init.zeros_(hidden.bias)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(16, 4))


def zeros_in_the_middle() -> nn.Module:
    from torch import nn

    middle = nn.Linear(16, 16)
    nn.init.zeros_(middle.weight)
    nn.init.zeros_(middle.bias)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), middle, nn.Tanh(), nn.Linear(16, 2))


def three_units(*empty: str) -> nn.Module:
    import torch
    from torch import nn

    class Unit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = x + self.outer(torch.sigmoid(self.gate(x)) * torch.tanh(self.inner(x)))
            return y

    model = nn.Sequential(Unit(), Unit(), Unit())
    for name in empty:
        nn.init.zeros_(model.get_parameter(name))
    return model


def gate_of_one_unit_of_three() -> nn.Module:
    return three_units("1.gate.weight")


def gates_of_all_units() -> nn.Module:
    return three_units(*(f"{i}.gate.weight" for i in range(3)))


def one_lora_factor_zero() -> nn.Module:
    from torch import nn

    model = both_lora_factors_zero()
    nn.init.normal_(model.get_parameter("down"))
    return model


def zero_head() -> nn.Module:
    from torch import nn

    head = nn.Linear(16, 4)
    nn.init.zeros_(head.weight)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), head)


def frozen_zero_head() -> nn.Module:
    model = zero_head()
    model.get_parameter("2.weight").requires_grad_(False)
    return model


def adapted_zero_base() -> nn.Module:
    model = one_lora_factor_zero()
    for parameter in model.get_submodule("base").parameters():
        parameter.detach().zero_()
        parameter.requires_grad_(False)
    return model


def frozen_copy_of_a_zero_head() -> nn.Module:
    import copy

    from torch import nn

    class Distilled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = zero_head()
            self.teacher = copy.deepcopy(self.student).requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            distance: torch.Tensor = self.student(x) - self.teacher(x)
            return distance

    return Distilled()


def adapter_of_a_frozen_zero_layer() -> nn.Module:
    from torch import nn

    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.base = nn.Linear(8, 8), nn.Linear(8, 8)
            nn.init.zeros_(self.base.weight)
            self.base.requires_grad_(False)
            self.down, self.up = nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)
            nn.init.zeros_(self.up.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.stem(x)
            y: torch.Tensor = self.base(h) + self.up(self.down(h))
            return y

    return Adapted()


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class DeadZeroInit(Rule):
    """A zero weight whose gradient is zero at every step.

    Each of two zero factors in series keeps the other's gradient at zero, and so does a zero layer in
    front of a ReLU: the parameters never move from where they are. A zero weight that is frozen lets
    nothing through in either direction, for ever. One that does move, but leaves a layer behind it without
    input at the start, or is the only one of its kind that is zero, is a note.

    Draw one factor of the pair from a distribution and keep the other at zero.

    References:
        Hu et al., LoRA, 2021, section 4.1: A Gaussian, B zero.
    """

    code = "IL103"
    name = "dead-zero-init"
    severity = "error"
    needs = frozenset({"statistics", "graph", "probe", "confirmation"})
    explained_by = {"overwritten-init": "same", "dtype-underflow": "same", "discarded-write": "same"}
    examples = (
        Example(both_lora_factors_zero, finds=("down", "up"), inputs=batch),
        Example(zero_branch_behind_a_zero_gate, finds=("outer.weight", "gate"), inputs=batch),
        Example(zeros_into_relu, finds=("0.weight",), inputs=batch),
        Example(zeros_in_the_middle, finds=("2.weight",), inputs=batch),
        Example(gate_of_one_unit_of_three, finds=("1.gate.weight",), inputs=batch),
        Example(gates_of_all_units, inputs=batch),
        Example(frozen_zero_head, finds=("2.weight",), inputs=batch),
        Example(one_lora_factor_zero, inputs=batch),
        Example(zero_branch_behind_an_open_gate, inputs=batch),
        Example(adapted_zero_base, inputs=batch),
        Example(frozen_copy_of_a_zero_head, inputs=batch),
        Example(adapter_of_a_frozen_zero_layer, inputs=batch),
        Example(zero_head, inputs=batch),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        for weight in frozen_zeros(model):
            yield self.finding(
                weight,
                "every value is 0, and it does not require a gradient: no input ever passes through it",
                measured={"value": 0.0},
                expected={"requires_grad": True},
                help="leave requires_grad at True, or load the values that it is to keep",
                site=weight.provenance.frozen,
            )
        alone = {weight.name: drawn for weight, drawn in emptied(model)}
        for weight in model.weights:
            figures, settled = weight.statistics, weight.confirmation
            if figures is None or settled is None or not weight.requires_grad:
                continue
            if figures.constant and settled.zero_gradient:
                yield self._dead(weight, figures.mean, settled.steps, _shut_gates(model, weight))
            elif figures.constant and not figures.mean and (starved := _starved(model, weight)):
                yield self._starving(weight, starved[0])
            elif weight.name in alone:
                yield self._odd(weight, alone[weight.name])

    def _dead(self, weight: Tensor, value: float, steps: int, gates: tuple[Tensor, ...]) -> Finding:
        return self.finding(
            (weight, *gates),
            f"every value is {value:.3g} and the gradient is exactly zero in each of {steps} training steps",
            measured={"value": value, "gradient": 0.0},
            expected={"gradient": "above 0"},
            help="draw this weight, or the zero weight it is multiplied with, from a distribution",
            suggestion=redraw(weight),
            locations=[
                Location(site, f"{gate.name} gets its zeros")
                for gate in gates
                if (site := gate.provenance.site) is not None
            ],
        )

    def _starving(self, weight: Tensor, behind: str) -> Finding:
        return self.finding(
            weight,
            f"every value is 0: {behind} behind it receives nothing but zeros, and no gradient until this "
            "one has moved",
            measured={"value": 0.0},
            expected={"std": "above 0"},
            help="draw it from a distribution; zero suits the last layer of a branch or of the model",
            severity="note",
        )

    def _odd(self, weight: Tensor, drawn: Sequence[Tensor]) -> Finding:
        std = drawn[0].statistics.std if drawn[0].statistics is not None else 0.0
        more = f" and {len(drawn) - 1} more like it are" if len(drawn) > 1 else " is"
        return self.finding(
            weight,
            f"every value is 0, while {drawn[0].name}{more} drawn with std {std:.3g}",
            measured={"std": 0.0},
            expected={"std": std},
            help="initialise it by the line that initialises its siblings",
            severity="note",
        )


def _shut_gates(model: Evidence, weight: Tensor) -> tuple[Tensor, ...]:
    """Zero factors of its output that are no weights themselves, and that have no gradient either."""
    return tuple(
        gate
        for gate in model.parameters
        if gate.use is not None
        and gate.use.role in ("scalar", "gain")
        and weight.name in gate.use.wiring.sources
        and gate.statistics is not None
        and gate.statistics.absmax == 0
        and gate.gradient is not None
        and gate.gradient.scale is not None
        and gate.gradient.scale.rms == 0
    )


def _starved(model: Evidence, weight: Tensor) -> list[str]:
    """Drawn weights whose inputs are all zero because this one is in front of them."""
    return [
        other.name
        for other in model.weights
        if other.use is not None
        and weight.name in other.use.wiring.sources
        and other.statistics is not None
        and other.statistics.std > 0
        and (signal := model.output_of(other)) is not None
        and signal.input_rms == 0
    ]
