"""The thresholds that are set by what healthy models reach, how each is measured, and which faults it is for.

A threshold of a symptom is measured by the function that the symptom compares, one of a rule by the rule
itself: its critical value is the one at which the rule begins to speak.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Literal
from unittest.mock import patch

from benchmarks.fault_matrix import speaks_of
from benchmarks.faults import (
    Fault,
    Names,
    all_weights,
    biases,
    branch_ends,
    constant,
    hidden_weights,
    last_weight,
    plain_stacks,
    redrawn,
    scaled,
    squashed_weights,
    tables,
)
from initlint import Evidence, Rule, Signal, Weight, registry, theory
from initlint.analysis import symptoms
from initlint.analysis.recipes import sine
from initlint.rule import subjects

#: What is measured at some parameters of a model, at all of them for None.
Figures = Callable[[Evidence, Names | None], Iterable[float]]
#: Likewise for one weight whose output is known.
WeightFigures = Callable[[Evidence, Weight, Signal], Iterable[float | None]]


@dataclass(frozen=True, slots=True)
class Threshold:
    """A constant, what is compared with it, and the faults that it is to tell from healthy models.

    `home` holds the constant: a module, or a rule whose option it is. Faults lie `beyond` it.
    """

    home: ModuleType | type[Rule]
    constant: str
    measures: str
    figures: Figures
    faults: tuple[Fault, ...]
    beyond: Literal["above", "below"] = "above"

    @property
    def name(self) -> str:
        """Such as "symptoms.GROWTH" or "IL203.ratio"."""
        return name_of(self.home, self.constant)

    @property
    def value(self) -> float:
        """The constant, read from the code."""
        return float(getattr(self.home, self.constant))

    def worst(self, model: Evidence, names: Names | None = None) -> float | None:
        """The figure that comes nearest to a fault, or goes farthest; None where nothing is measured."""
        figures = [figure for figure in self.figures(model, names) if not math.isnan(figure)]
        return (max if self.beyond == "above" else min)(figures, default=None)


def name_of(home: ModuleType | type[Rule], constant: str) -> str:
    """A constant's name behind that of its rule or module."""
    return f"{home.__name__.rpartition('.')[2] if isinstance(home, ModuleType) else home.code}.{constant}"


# ---------------------------------------------------------------- how it is measured


def each_weight(off: Literal["large", "small"], figures: WeightFigures) -> Figures:
    """What a function gives for every weight that is off by as much as a rule asks for symptoms from."""

    visible = float(RULES.find("IL205").options()["visible"])

    def measured(model: Evidence, names: Names | None) -> Iterator[float]:
        for weight in model.weights:
            if names is None or any(speaks_of(weight.name, (name,)) for name in names):
                signal, scale = model.output_of(weight), relative_scale(weight)
                if signal is None or (scale if off == "large" else 1 / scale) < visible:
                    continue
                yield from (figure for figure in figures(model, weight, signal) if figure is not None)

    return measured


def relative_scale(weight: Weight) -> float:
    """Std over the one that fan-in and activation call for; 1 where it is unknown, constant or may be small.

    Heads and the ends of residual branches may be small.
    """
    use, figures = weight.use, weight.statistics
    if not use.fan_in or not figures.std > 0:
        return 1.0
    scale = figures.std / theory.expected_std(use.fan_in, use.activation)
    return max(scale, 1.0) if use.reaches_output or use.ends_residual else scale


def saturation(model: Evidence, weight: Weight, signal: Signal) -> Iterator[float]:
    yield from (following.saturated for following in symptoms.squashed(model, signal))


def confidence(model: Evidence, weight: Weight, signal: Signal) -> Iterator[float]:
    use = weight.use
    if not use.normalised_after and not use.wiring.unit:
        for logits in symptoms.judged_logits(model, weight):
            yield logits.loss / math.log(logits.classes)


def growth(model: Evidence, weight: Weight, signal: Signal) -> Iterator[float | None]:
    if not symptoms.is_restored(model, weight):
        yield symptoms.amplification(model, weight)


def decay(model: Evidence, weight: Weight, signal: Signal) -> Iterator[float | None]:
    if not symptoms.is_restored(model, weight):
        yield symptoms.passed_on(model, weight, signal)


def drowning(model: Evidence, weight: Weight, signal: Signal) -> Iterator[float | None]:
    yield from (total.branch_ratio for total in symptoms.residual_sums(model, signal))


def gates(model: Evidence, weight: Weight, signal: Signal) -> Iterator[float | None]:
    yield symptoms.gate_drive(model, weight, signal)


def lost_gradient(model: Evidence, weight: Weight, signal: Signal) -> Iterator[float]:
    ratio = symptoms.disproportion(model, weight)
    if ratio:
        yield symptoms.lost(model, weight, ratio)


def large_gradient(model: Evidence, weight: Weight, signal: Signal) -> Iterator[float | None]:
    yield symptoms.disproportion(model, weight)


STEPS = 14  # halvings of the logarithm: a range of 10^15 comes down to 0.2 %


def critical(
    rule: type[Rule],
    home: ModuleType | type[Rule],
    constant: str,
    loosest: float,
    strictest: float,
    *,
    shows: bool = False,
    **options: float,
) -> Figures:
    """The value of a constant of `home` at which a rule begins to speak of the parameters, by bisection.

    None is found where the rule is silent even at the `loosest` value, or speaks even at the `strictest`.
    `options` are those of the rule that would hide it; `shows` takes every wrong scale for one that has a
    symptom.
    """

    def speaks(model: Evidence, names: Names | None, value: float) -> bool:
        with ExitStack() as stack:
            stack.enter_context(patch.object(home, constant, value))
            if shows:
                stack.enter_context(every_scale_shows())
            found = rule(**options).check(model)
            return any(
                names is None or any(speaks_of(subject, names) for subject in subjects(finding))
                for finding in found
            )

    def measured(model: Evidence, names: Names | None) -> Iterator[float]:
        if not speaks(model, names, loosest) or speaks(model, names, strictest):
            return
        spoken, silent = math.log(loosest), math.log(strictest)
        for _ in range(STEPS):
            middle = (spoken + silent) / 2
            if speaks(model, names, math.exp(middle)):
                spoken = middle
            else:
                silent = middle
        yield math.exp(spoken)

    return measured


@contextmanager
def every_scale_shows() -> Iterator[None]:
    """Rules that ask for a symptom of a scale get one."""
    symptom = symptoms.Symptom("growth", "", "figure", 1.0)
    with (
        patch.object(symptoms, "of_excess", lambda model, weight: symptom),
        patch.object(symptoms, "of_lack", lambda model, weight: symptom),
    ):
        yield


# ---------------------------------------------------------------- the faults

FACTORS = 10, 100
ENLARGED = tuple(Fault(f"× {factor}", all_weights, scaled(factor)) for factor in FACTORS)
HEADS = tuple(Fault(f"head × {factor}", last_weight, scaled(factor)) for factor in FACTORS)
TABLES = tuple(Fault(f"table × {factor}", tables, scaled(factor)) for factor in FACTORS)
BRANCHES = tuple(Fault(f"end of branch × {factor}", branch_ends, scaled(factor)) for factor in FACTORS)
SQUASHED = tuple(Fault(f"squashed × {factor}", squashed_weights, scaled(factor)) for factor in FACTORS)
SHRUNK = tuple(Fault(f"× 1/{factor}", hidden_weights, scaled(1 / factor)) for factor in (30, 1000))
LOUD = tuple(Fault(f"stack of gain {gain}", plain_stacks, redrawn(gain)) for gain in (3, 10))
QUIET = tuple(Fault(f"stack of gain {gain}", plain_stacks, redrawn(gain)) for gain in (0.3, 0.1))
SHIFTED = tuple(Fault(f"bias {value}", biases, constant(value)) for value in (-5, 10))


# ---------------------------------------------------------------- the thresholds

LEAST, MOST = 1e-6, 1e9  # figures beyond are of no interest
RULES = registry.load()


def symptom(
    constant: str,
    measures: str,
    off: Literal["large", "small"],
    figures: WeightFigures,
    faults: tuple[Fault, ...],
    *,
    beyond: Literal["above", "below"] = "above",
) -> Threshold:
    """The row of a constant of `initlint.analysis.symptoms`."""
    return Threshold(symptoms, constant, measures, each_weight(off, figures), faults, beyond)


def option(
    code: str,
    constant: str,
    measures: str,
    faults: tuple[Fault, ...],
    loosest: float,
    strictest: float,
    *,
    shows: bool = False,
    **options: float,
) -> Threshold:
    """The row of an option of a rule."""
    rule = RULES.find(code)
    figures = critical(rule, rule, constant, loosest, strictest, shows=shows, **options)
    return Threshold(rule, constant, measures, figures, faults, "above" if loosest < strictest else "below")


THRESHOLDS: tuple[Threshold, ...] = (
    symptom("SATURATED", "share of outputs on the flat part", "large", saturation, SQUASHED),
    symptom("CONFIDENT", "first cross-entropy over ln(classes)", "large", confidence, HEADS),
    symptom("GROWTH", "output over input of one layer", "large", growth, ENLARGED),
    symptom("DECAY", "output over input of one layer", "small", decay, SHRUNK, beyond="below"),
    symptom("DROWNED", "residual branch over stream", "large", drowning, BRANCHES),
    symptom("FLAT", "what a recurrent weight adds to its gates", "large", gates, SQUASHED),
    symptom(
        "STARVED",
        "how many times smaller than the median a weight makes its own gradient over its values",
        "large",
        lost_gradient,
        ENLARGED,
    ),
    symptom(
        "DISPROPORTION",
        "gradient over values, in units of the median weight's",
        "small",
        large_gradient,
        SHRUNK,
    ),
    option("IL202", "ratio", "expected std over std", SHRUNK, 1, MOST, shows=True),
    option("IL202", "usual", "std of weights beyond the ratio", SHRUNK, MOST, 1e-12, shows=True),
    option("IL202", "lost", "one summand over another, drawn apart", SHRUNK, 1, MOST, usual=0),
    option("IL203", "ratio", "std over the expected one", ENLARGED, LEAST, MOST, shows=True),
    option(
        "IL208",
        "drowned",
        "share of a sum with a table that depends on the input",
        TABLES,
        0.3,
        LEAST,
        ratio=math.inf,
        sharp=math.inf,
    ),
    option("IL208", "ratio", "table over another one", TABLES, 1, MOST, drowned=0, sharp=math.inf),
    option(
        "IL208",
        "sharp",
        "std of logits, gain of their weight",
        HEADS,
        LEAST,
        MOST,
        drowned=0,
        ratio=math.inf,
    ),
    option("IL210", "sigmas", "bias over what input and weight add", SHIFTED, LEAST, MOST),
    option("IL210", "least", "bias behind which no sigmoid follows", SHIFTED, LEAST, MOST, rarest=math.inf),
    option("IL210", "rarest", "bias of an output or before a sigmoid", SHIFTED, LEAST, MOST, least=math.inf),
    option("IL210", "units", "share of the units that a bias decides", SHIFTED, LEAST, 1),
    option("IL402", "share", "share of outputs on the flat part", SQUASHED + SHIFTED, LEAST, 1),
    option("IL403", "remaining", "what is left of the difference between inputs", QUIET, MOST, 1e-30),
    option("IL404", "factor", "growth of the signal from the first layer on", LOUD, LEAST, 1e30),
    option("IL405", "remaining", "what is left of the gradient at the first layer", QUIET, MOST, 1e-30),
    option("IL406", "factor", "growth of the gradient back to the first layer", LOUD, LEAST, 1e30),
    option("IL407", "factor", "first cross-entropy over ln(classes), chance taken off", HEADS, LEAST, MOST),
    Threshold(
        sine,
        "RATIO",
        "std of a hidden sine layer over the prescribed one, or the reverse",
        critical(RULES.find("IL501"), sine, "RATIO", 1.001, MOST),
        ENLARGED + SHRUNK,
    ),
)

#: Thresholds that no gap holds: what was chosen instead, by the cost of a false alarm.
WITHOUT_GAP: dict[str, str] = {
    "symptoms.DISPROPORTION": "No gap: where branches start closed, behind layer scales of "
    "1e-6 say, the median gradient is next to nothing, and healthy weights beside them have ones a million "
    "times as large. The constant stays far out, and counts only together with a scale that a rule finds too "
    "small: a fault that it misses shows in what passes on (`symptoms.DECAY`), a false alarm shows to all.",
    "IL406.factor": "Next to no gap: healthy stacks of random shape reach 1350, half of the faulty ones stay "
    "below 3110. The constant is the inverse of that of IL405, seven times what a healthy model showed: a "
    "stack that explodes less is found by its scales, a false alarm shows to all.",
    "IL202.lost": "No fault: none of the models adds two branches that its own code draws one by one. The "
    "constant is far beyond what healthy sums reach.",
}

#: Numbers of the same rules and modules that no corpus sets.
UNMEASURED: dict[str, str] = {
    "IL202.fitting": "decides between a note and a warning, only for what a package chose",
    "IL208.zero": "what counts as started at zero on purpose: a guard, which no fault comes near",
    "IL210.sparsest": "log odds of one object among the cells and classes of a detection head, by its size",
    "IL403.deviations": "a level of chance, derived in theory and simulated",
    "IL407.positions": "what makes a map dense; the finding is a note",
    "il401_dead_units.OUTWEIGHS": "a level of chance: a normal value lies beyond once in 10^15",
    "il402_saturated_activation.RAREST": "log odds of the rarest prior in use",
    "il407_initial_loss.EVEN": "what counts as one half; the finding is a note",
    "il407_initial_loss.MANY": "a bound: a sum of two cannot exceed both together",
    "signal_path.RESOLUTION": "a property of float32",
    "signal_path.RESTORED": "what a normalisation puts out is of size 1 by definition",
    "signal_path.CROWD": "follows from n - 2 of n values that a batch norm leaves free",
    "signal_path.FEWEST": "points that a slope can be fitted to",
    "signal_path.LOUD": "lies above the largest gain of theory, 5/3, and points out, but finds nothing",
    "residual.APART": "decides on gates of one kind; published models grade theirs by 10",
    "sine.FIRST_RATIO": "first layers are tuned to the data by choice",
    "sine.RUIN": "decides between a note and a warning",
    "adapters.NEAR_IDENTITY": "measured by Houlsby et al., 2019, section 3.6",
    "adapters.UNIT": "what changes a frozen model less than dropout does",
    "similarity.LEAST": "the range of published logit scales",
    "similarity.MOST": "the range of published logit scales",
    "statespace.SLACK": "beyond the range of Gu & Dao, 2023, section 3.6",
    "statespace.FASTEST": "beyond the range of Gu & Dao, 2023, which ends at 16",
    "depth.CLOSE": "a level of agreement of two figures of one formula",
    "depth.FEWEST": "blocks from which on scaling by depth matters",
}
