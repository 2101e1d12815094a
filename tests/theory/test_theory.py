"""Gains and sampling errors against torch, closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from initlint import theory
from initlint.theory import sampling

# ---------------------------------------------------------------- gains


@pytest.mark.parametrize(
    ("activation", "exact"),
    [
        ("linear", 1.0),
        ("none", 1.0),
        (None, 1.0),
        ("relu", math.sqrt(2)),
        ("leaky_relu", math.sqrt(2 / (1 + 0.01**2))),
        ("prelu", math.sqrt(2 / (1 + 0.25**2))),
        ("selu", 1.0),
        ("relu_squared", math.sqrt(2 / 3)),
        ("tanh", 1.592537),
        ("erf", None),
        ("softmax", None),
    ],
)
def test_gains_known_in_closed_form(activation: str | None, exact: float | None) -> None:
    assert theory.gain(activation) == (None if exact is None else pytest.approx(exact, rel=1e-6))


@pytest.mark.parametrize(("activation", "gain"), [("relu", math.sqrt(2)), ("softmax", 1.0), (None, 1.0)])
def test_an_activation_that_nobody_knows_counts_as_linear(activation: str | None, gain: float) -> None:
    assert theory.assumed_gain(activation) == pytest.approx(gain)
    assert theory.expected_std(64, activation) == pytest.approx(gain / 8)


@pytest.mark.parametrize("name", sorted(set(theory.ACTIVATIONS) - {"linear", "rrelu", "relu_squared"}))
def test_activations_are_those_of_torch(name: str) -> None:
    module = {"prelu": lambda x: functional.prelu(x, torch.tensor([0.25], dtype=x.dtype))}
    function = module.get(name) or getattr(functional, name)
    x = torch.linspace(-7, 7, 57, dtype=torch.float64)
    ours = torch.tensor([theory.ACTIVATIONS[name](value) for value in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(ours, function(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(theory.PYTORCH_GAINS))
def test_gains_of_pytorch(name: str) -> None:
    assert theory.PYTORCH_GAINS[name] == pytest.approx(nn.init.calculate_gain(name))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "tanh", "selu", "softsign"])
def test_gain_keeps_the_scale_of_a_deep_stack(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(64, 1024, generator=generator)
    std = theory.expected_std(1024, name)
    for _ in range(3):
        active = getattr(functional, name)(signal)
        signal = active @ (torch.randn(1024, 1024, generator=generator) * std)
    assert float(signal.square().mean().sqrt()) == pytest.approx(1.0, rel=0.1)


def test_default_bound_is_that_of_linear_and_conv() -> None:
    for layer in (nn.Linear(300, 40), nn.Conv2d(8, 6, 5), nn.Conv1d(12, 6, 3, groups=3)):
        fan_in, fan_out = theory.fans(tuple(layer.weight.shape)) or (0, 0)
        assert (fan_in, fan_out) == nn.init._calculate_fan_in_and_fan_out(layer.weight)
        largest = float(layer.weight.detach().abs().max())
        assert 0.9 * theory.default_bound(fan_in) < largest <= theory.default_bound(fan_in)
    assert theory.fans((5,)) is None


# ---------------------------------------------------------------- quantiles


@pytest.mark.parametrize(
    ("freedom", "low", "high"),
    [  # reference values: scipy.stats.chi2.ppf(1e-6, ν), chi2.isf(1e-6, ν)
        (1, 1.5707963267957187e-12, 23.928126976934827),
        (2, 2.0000010000006676e-06, 27.631021115928547),
        (10, 0.3381260032429545, 46.863046846784385),
        (100, 46.50133071589313, 182.12677711920545),
        (999, 800.7306532340544, 1226.046189012162),
        (100_000, 97888.58221843735, 102140.21100646461),
    ],
)
def test_chi_square_quantiles(freedom: float, low: float, high: float) -> None:
    assert sampling.chi_square_quantile(1e-6, freedom) == pytest.approx(low, rel=1e-5)
    assert sampling.chi_square_quantile(1e-6, freedom, upper=True) == pytest.approx(high, rel=1e-5)


@pytest.mark.parametrize(
    ("freedom", "t"),
    [  # reference values: scipy.stats.t.isf(5e-7, ν)
        (1, 636619.7723670577),
        (3, 130.15458955837687),
        (10, 10.516489956914905),
        (100, 5.213727574230077),
        (100_000, 4.891943340715112),
    ],
)
def test_student_quantiles(freedom: float, t: float) -> None:
    assert sampling.student_quantile(1e-6, freedom) == pytest.approx(t, rel=1e-7)


@pytest.mark.parametrize("kurtosis", [1.8, 2.4, 3.0, 9.0])
def test_std_intervals_narrow_to_the_asymptotic_error(kurtosis: float) -> None:
    widths = [theory.std_interval(n, kurtosis) for n in (2, 3, 8, 63, 64, 65, 1000, 10**5, 10**7)]
    assert all(low <= 1 <= high for low, high in widths)
    assert [low for low, _ in widths] == sorted(low for low, _ in widths)
    assert [high for _, high in widths] == sorted((high for _, high in widths), reverse=True)
    error = 4.7534 * 0.5 * math.sqrt((kurtosis - 1) / 10**7)  # var(s²) = σ⁴(κ-1)/n
    assert widths[-1][0] == pytest.approx(1 - error, abs=1e-5)
    assert widths[-1][1] == pytest.approx(1 + error, abs=1e-5)


@pytest.mark.parametrize("n", [4, 16, 100])
@pytest.mark.parametrize("kurtosis", [1.8, 3.0])
def test_healthy_draws_stay_inside(n: int, kurtosis: float) -> None:
    """At a level of 1 in 1000 both ends are crossed about that often, or less."""
    random = np.random.default_rng(n)
    draws = 60_000
    x = (
        random.standard_normal((draws, n))
        if kurtosis == 3
        else random.uniform(-1, 1, (draws, n)) * math.sqrt(3)
    )
    std, mean = x.std(axis=1), x.mean(axis=1)
    low, high = theory.std_interval(n, kurtosis, 1e-3)
    most = 1e-3 * draws + 5 * math.sqrt(1e-3 * draws)
    assert (std < low).sum() < most
    assert (std > high).sum() < most
    assert (np.abs(mean) > theory.mean_error(1.0, n, 1e-3) * std).sum() < most
    largest = np.abs(x).max(axis=1)
    assert (largest > theory.largest(n, 1e-3)).sum() < most
    if kurtosis == 3:
        assert (std < low).sum() > most / 10
        assert (largest < sampling.smallest_maximum(n, 1e-3)).sum() < most


def test_departs_needs_both_significance_and_ratio() -> None:
    assert not theory.departs(2.5, 1.0, 4)
    assert theory.departs(2.5, 1.0, 10_000)
    assert theory.departs(1.1, 1.0, 10_000)
    assert not theory.departs(1.1, 1.0, 10_000, ratio=2)
    assert theory.departs(0.4, 1.0, 10_000, ratio=2)
    assert theory.falls_short(0.4, 1.0, 10_000)
    assert not theory.exceeds(0.4, 1.0, 10_000)


def test_biased() -> None:
    assert not theory.biased(0.5, 0.3, 4)
    assert theory.biased(0.5, 0.3, 1000)
    assert not theory.biased(0.02, 0.3, 10**6, ratio=0.1)
    assert not theory.biased(1.0, 0.0, 1)


@given(st.floats(1e-4, 0.999), st.integers(1, 10**6))
def test_fraction_bound_is_above_what_is_expected(expected: float, n: int) -> None:
    bound = theory.fraction_bound(expected, n)
    assert expected <= bound <= 1
    assert theory.fraction_bound(expected, n * 4) <= bound + 1e-9


def test_fraction_bound_holds_the_exact_binomial_tail() -> None:
    n, p = 100, 0.5
    most = theory.fraction_bound(p, n)
    tail = sum(math.comb(n, k) for k in range(math.ceil(most * n), n + 1)) / 2**n
    assert tail <= sampling.FALSE_ALARM
    assert theory.fraction_bound(0.0, 10) == 0
    assert theory.fraction_bound(1.0, 10) == 1


# ---------------------------------------------------------------- shapes of distributions


@pytest.mark.parametrize("cut", [0.5, 1.0, 2.0, 3.0])
def test_moments_of_truncated_normals(cut: float) -> None:
    x = np.linspace(-cut, cut, 200_001)
    density = np.exp(-(x**2) / 2)
    density /= density.sum()
    by_quadrature = [float((density * x**order).sum()) for order in (2, 4, 6, 8)]
    assert theory.truncated_moments(cut) == pytest.approx(by_quadrature, rel=1e-3)


def test_kurtosis_error() -> None:
    assert sampling.kurtosis_error(3, 15, 105, 24) == pytest.approx(1.0)
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (4000, 1000))
    kurtosis = (x**4).mean(axis=1) / (x**2).mean(axis=1) ** 2
    assert kurtosis.std() == pytest.approx(sampling.kurtosis_error(9 / 5, 27 / 7, 9, 1000), rel=0.06)
