"""IL103 dead-zero-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.frozen import frozen_zeros
from initlint.analysis.outliers import lone_zeros
from initlint.analysis.remedies import redraw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from initlint import Evidence, Finding, Tensor, Weight


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
    level = "value"
    needs = frozenset({"statistics", "graph", "probe", "confirmation"})
    explained_by = {"discarded-write": "same"}

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
        alone = {weight.name: drawn for weight, drawn in lone_zeros(model)}
        for weight in model.weights:
            figures, settled = weight.statistics, weight.confirmation
            if settled is None or not weight.requires_grad:
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

    def _odd(self, weight: Weight, drawn: Sequence[Weight]) -> Finding:
        std = drawn[0].statistics.std
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
        for gate in model.used_parameters
        if gate.use.role in ("scalar", "gain")
        and weight.name in gate.use.wiring.sources
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
        if weight.name in other.use.wiring.sources
        and other.statistics.std > 0
        and (signal := model.output_of(other)) is not None
        and signal.input_rms == 0
    ]
