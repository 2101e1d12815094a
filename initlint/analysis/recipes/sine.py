"""Networks of sine layers: SIREN."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint.analysis.recipes.recipe import Deviation, Recipe
from initlint.analysis.recipes.similarity import effective
from initlint.analysis.signal_path import is_used
from initlint.finding import Location

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Weight

#: Pre-activations of a hidden layer have unit variance by the paper's theorem 1.8; a factor of 2 is more than
#: any small layer's sampling error, and makes gradients grow or fall by 2 in each layer.
RATIO = 2.0
#: First layers of other spreads are tuned to the data's frequencies; this is beyond what is tuned.
FIRST_RATIO = 3.0
FREQUENCIES = 10.0, 300.0  # of the first layer over [-1, 1]; the paper takes 30
RUIN = 100.0  # gradients off by this over all layers cannot be trained


def _omega(model: Evidence, weight: Weight) -> float | None:
    """What the layer's output is multiplied by inside the sine; None for a learned frequency per unit."""
    omega = weight.use.wiring.factor
    for name in weight.use.wiring.multipliers:
        tensor = model.by_name[name]
        if omega is None or not is_used(tensor) or tensor.elements != 1:
            return None
        factor = effective(tensor.statistics.mean, tensor.use.wiring.steps)
        omega = omega * factor if factor is not None else None
    return omega


def _is_sine(weight: Weight) -> bool:
    pointwise = weight.use.role == "matrix" or math.prod(weight.shape[2:]) == 1
    return pointwise and weight.use.activation == "sin"


def _deviations(model: Evidence) -> Iterator[Deviation]:
    sines = {w.name: w for w in model.weights if _is_sine(w)}
    hidden = {name for name, w in sines.items() if set(w.use.wiring.sources) & set(sines)}
    judged: list[
        tuple[Weight, float, float, float]
    ] = []  # weight, measured and expected std, what it is off by
    fine: list[Weight] = []
    for name, weight in sines.items():
        omega, figures, use = _omega(model, weight), weight.statistics, weight.use
        if not hidden or not use.fan_in or not omega or not figures.std:
            continue
        inside = name in hidden
        expected = math.sqrt(2 / use.fan_in) / abs(omega) if inside else 1 / (use.fan_in * math.sqrt(3))
        ratio = figures.std / expected
        off = RATIO if inside else FIRST_RATIO
        usable = not inside and FREQUENCIES[0] <= ratio * abs(omega) <= FREQUENCIES[1]
        if 1 / off <= ratio <= off or usable:
            fine.append(weight)
        else:
            judged.append((weight, figures.std, expected, ratio))
    growth = math.prod(ratio for weight, _, _, ratio in judged if weight.name in hidden)
    for weight, std, expected, ratio in judged:
        inside = weight.name in hidden
        rule = "√(6/fan_in)/ω" if inside else "1/fan_in"
        yield Deviation(
            subject=weight,
            message=f"{'hidden' if inside else 'first'} sine layer with std {std:.3g}, "
            f"{ratio:.2g} times what uniform in ±{rule} gives",
            help=f"draw the weight of {'hidden' if inside else 'the first'} sine layers uniformly in ±{rule}",
            measured={"std": std},
            expected={"std": expected},
            harms=bool(fine) or not 1 / RUIN <= growth <= RUIN,
            locations=_story(model, weight, fine),
        )


def _story(model: Evidence, weight: Weight, fine: list[Weight]) -> tuple[Location, ...]:
    """How the value came about: the calls that led to the write, and where the layer was made.

    Of a layer that nothing initialised, also the line that initialised another as it should.
    """
    last = weight.provenance.last_write
    callers = last.callers[1:4] if last is not None else ()
    places = [Location(site, "called from here") for site in callers]
    written = (
        (other, write) for other in fine if (write := other.provenance.last_write) and not write.default
    )
    other, write = next(written, (None, None))
    if last is not None and last.default and other is not None and write is not None:
        places.append(Location(write.site, f"{other.name} gets its values here"))
    path = weight.owner
    while path:
        module = model.modules_by_path.get(path)
        if module is not None and module.construction is not None:
            places.append(Location(module.construction, f"{path} is made here"))
        path = path.rpartition(".")[0]
    return tuple(dict.fromkeys(places))


SIREN = Recipe(
    name="SIREN",
    asks="weights uniform in ±1/fan_in in the first layer, in ±√(6/fan_in)/ω in the others",
    reference="Sitzmann et al., Implicit Neural Representations with Periodic Activation Functions, 2020, "
    "section 3.2 and supplement 1",
    deviations=_deviations,
)
