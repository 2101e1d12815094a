"""Residual branches that a condition switches on: adaLN-Zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint.analysis.recipes.recipe import Deviation, Recipe, outputs, writes, zero

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Statistics, Weight


def _gate_figures(weight: Weight) -> list[Statistics]:
    """Figures of the rows that make the gates; empty where they cannot be told apart."""
    use, figures = weight.use, weight.statistics
    if use.parts == 1 or len(use.wiring.gates) == use.parts:
        return [figures]
    return [figures.parts[k] for k in use.wiring.gates] if len(figures.parts) == use.parts else []


def _deviations(model: Evidence) -> Iterator[Deviation]:
    gates = [(w, _gate_figures(w)) for w in model.weights if w.use.wiring.gates]
    open_gates = [(w, figures) for w, figures in gates if not all(map(zero, figures))]
    conditions = {w.use.wiring.sources for w, _ in gates}
    closed = [
        w
        for w in model.weights
        if w.use.wiring.sources in conditions and w.use.wiring.sources
        if zero(w.statistics) or any(w is g and all(map(zero, figures)) for g, figures in gates)
    ]
    for weight, figures in open_gates:
        parts = weight.use.parts
        rows = f"{len(figures)} of {parts} parts of it" if parts > 1 and len(figures) < parts else "it"
        others = f"; {closed[0].name}, fed by the same condition, is zero" if closed else ""
        std = max(part.rms for part in figures)
        yield Deviation(
            subject=weight,
            message=f"{rows} scale a residual branch and start at rms {std:.3g}, not at zero{others}"
            if rows != "it"
            else f"scales a residual branch and starts at rms {std:.3g}, not at zero{others}",
            help="set weight and bias of every layer that makes residual gates to zero",
            measured={"rms of the gates": std},
            expected={"rms of the gates": 0.0},
            harms=bool(closed),
            locations=writes(
                (t for w in closed for t in (w, model.bias_of(w))), "where others are set to zero"
            ),
        )
    if gates and not open_gates:
        yield from _open_ends(model, [w for w, _ in gates], conditions)


def _open_ends(model: Evidence, gates: list[Weight], conditions: set[tuple[str, ...]]) -> Iterator[Deviation]:
    """Modulations without gates, such as the last one, that are drawn while those of all blocks are zero."""
    widths = {outputs(w) / w.use.parts for w in gates}
    for weight in model.weights:
        use, figures = weight.use, weight.statistics
        if use.wiring.gates or zero(figures):
            continue
        alike = use.wiring.sources in conditions and use.parts > 1 and outputs(weight) / use.parts in widths
        if alike and use.activation in (None, "none"):
            yield Deviation(
                subject=weight,
                message=f"modulates by the same condition as {gates[0].name} and starts at rms "
                f"{figures.rms:.3g}, not at zero like all that have a gate",
                help="set weight and bias of the last layer's modulation to zero as well",
                measured={"rms": figures.rms},
                expected={"rms": 0.0},
                locations=writes(
                    (t for w in gates for t in (w, model.bias_of(w))), "where others are set to zero"
                ),
            )


ADALN_ZERO = Recipe(
    name="adaLN-Zero",
    asks="the layer that makes the gates of residual branches from a condition is zero in every block",
    reference="Peebles & Xie, Scalable Diffusion Models with Transformers, 2023, section 3.2",
    deviations=_deviations,
)
