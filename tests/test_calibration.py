"""Thresholds that were set by what healthy models reach lie where benchmarks/calibration.json says."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import calibration, thresholds
from benchmarks.architectures import BY_NAME
from benchmarks.calibration import FIGURES, HEALTHY, TABLE, Figures, Gap, Sample, gap, markdown, summary
from benchmarks.faults import FAULT_BY_NAME
from benchmarks.thresholds import RULES, THRESHOLDS, UNMEASURED, WITHOUT_GAP, Threshold, critical
from initlint import Evidence, Finding, Rule
from initlint.analysis import signal_path, symptoms

MEASURED: Figures = json.loads(FIGURES.read_text(encoding="utf-8"))
ROWS = {threshold.name.partition(",")[0] for threshold in THRESHOLDS}
JUDGED = ("IL202", "IL203", "IL208", "IL210", "IL401", "IL402", "IL403", "IL404", "IL405", "IL406", "IL407")


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=lambda threshold: threshold.name)
def test_a_constant_lies_in_its_gap_or_has_none(threshold: Threshold) -> None:
    found = gap(threshold, MEASURED)
    assert found.holds(threshold.value) != (threshold.name in WITHOUT_GAP), (threshold.value, found)


def test_every_threshold_was_measured_on_faults() -> None:
    missing = [t.name for t in THRESHOLDS if not MEASURED["faulty"]["thresholds"][t.name]["count"]]
    assert not set(missing) - set(WITHOUT_GAP)


def test_figures_are_those_of_the_thresholds() -> None:
    names = [threshold.name for threshold in THRESHOLDS]
    assert len(set(names)) == len(names)
    assert all(list(some["thresholds"]) == names for some in MEASURED.values())
    assert set(WITHOUT_GAP) <= set(names)


def test_table_is_that_of_the_figures() -> None:
    assert TABLE.read_text(encoding="utf-8") == markdown(MEASURED)


def row(name: str) -> Threshold:
    return next(threshold for threshold in THRESHOLDS if threshold.name == name)


def numbers(values: dict[str, object]) -> set[str]:
    return {name for name, value in values.items() if type(value) in (int, float)}


def test_every_number_of_the_symptoms_has_a_row() -> None:
    constants = {name for name in numbers(vars(symptoms)) if name.isupper()}
    assert "GROWTH" in constants
    assert {f"symptoms.{name}" for name in constants} <= ROWS


@pytest.mark.parametrize("code", JUDGED)
def test_every_number_of_the_rules_of_scales_and_signals_has_a_row_or_a_reason(code: str) -> None:
    options = {f"{code}.{name}" for name in numbers(dict(RULES.find(code).options()))}
    assert options <= ROWS | set(UNMEASURED)


def test_every_number_of_the_signal_path_has_a_reason() -> None:
    constants = {name for name in numbers(vars(signal_path)) if name.isupper() and name[0] != "_"}
    assert {f"signal_path.{name}" for name in constants} <= set(UNMEASURED)


def test_constants_without_a_row_exist() -> None:
    assert not ROWS & set(UNMEASURED)
    for name, reason in UNMEASURED.items():
        home, _, constant = name.partition(".")
        assert reason
        if home.startswith("IL"):
            assert constant in RULES.find(home).options()
        else:
            homes = f"initlint.analysis.{home}", f"initlint.analysis.recipes.{home}", f"initlint_rules.{home}"
            assert any(hasattr(module, constant) for module in map(found_module, homes) if module)


def found_module(name: str) -> object:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


# ---------------------------------------------------------------- how it is measured


@pytest.mark.parametrize(
    ("beyond", "healthy", "faulty", "inside", "outside"),
    [
        ("above", 7.0, 16.0, 8.0, (7.0, 6.0, 16.0, 20.0)),
        ("below", 0.03, 0.01, 0.02, (0.03, 0.05, 0.01, 0.001)),
    ],
)
def test_a_gap_holds_what_lies_between(
    beyond: str, healthy: float, faulty: float, inside: float, outside: tuple[float, ...]
) -> None:
    assert Gap(healthy, faulty, beyond).holds(inside)
    assert not any(Gap(healthy, faulty, beyond).holds(value) for value in outside)
    overlap = Gap(faulty, healthy, beyond)
    assert not overlap.exists
    assert not overlap.holds(inside)


def test_quantiles_run_from_harmless_to_harmful() -> None:
    growth, decay = (
        next(t for t in THRESHOLDS if t.name == f"symptoms.{name}") for name in ("GROWTH", "DECAY")
    )
    samples = [Sample(f"model {n}", {growth.name: n, decay.name: n}) for n in range(1, 101)]
    above, below = (summary(threshold, samples, HEALTHY) for threshold in (growth, decay))
    assert (above["quantiles"], above["edge"]) == ([51, 91, 100, 100], "model 100")
    assert (below["quantiles"], below["edge"]) == ([50, 10, 1, 1], "model 1")


class Longer(Rule):
    """A rule that speaks of one parameter whose figure exceeds its option."""

    code, name, severity = "X002", "longer", "note"
    examples = ()
    limit: float = 10.0

    def check(self, model: Evidence) -> Iterator[Finding]:
        if self.limit < 3.7:
            yield self.finding("layer.weight", "longer")


def test_critical_value_is_where_a_rule_begins_to_speak() -> None:
    figures, model = critical(Longer, Longer, "limit", 1e-6, 1e9), Evidence()
    assert list(figures(model, None)) == [pytest.approx(3.7, rel=0.003)]
    assert list(figures(model, ("layer.weight",))) == [pytest.approx(3.7, rel=0.003)]
    assert not list(figures(model, ("other.weight",)))
    assert not list(critical(Longer, Longer, "limit", 4.0, 1e9)(model, None))
    assert not list(critical(Longer, Longer, "limit", 1e-6, 3.0)(model, None))
    assert Longer.limit == 10.0


def test_a_fault_is_measured_at_the_parameter_that_has_it() -> None:
    architecture, fault = BY_NAME["kaiming-mlp"], FAULT_BY_NAME["× 100"]
    growth = row("symptoms.GROWTH")
    build = partial(fault.build, architecture, "4.weight")
    model = calibration.evidence("faulty", build, architecture.inputs, 0)
    (figure,) = calibration.measured("faulty", model, [growth], "4.weight").figures.values()
    assert 50 < figure < 300
    assert not calibration.measured("faulty", model, [growth], "6.weight").figures


def test_symptoms_are_measured_at_weights_that_are_off() -> None:
    architecture = BY_NAME["kaiming-mlp"]
    model = calibration.evidence("healthy", architecture.build, architecture.inputs, 0)
    scales = [thresholds.relative_scale(weight) for weight in model.weights]
    assert all(0.5 < scale < 1.9 for scale in scales)
    growth = row("symptoms.GROWTH")
    assert growth.worst(model) is None
    assert math.isclose(growth.value, symptoms.GROWTH)
