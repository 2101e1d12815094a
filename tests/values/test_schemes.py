"""Recognition of initialisations: every function of torch.nn.init, at several sizes and in several uses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from listening import evidence
from numpy.typing import NDArray
from torch import nn

from initlint.evidence.signals import Shape
from initlint.evidence.use import Use
from initlint.evidence.values import Scheme, Statistics
from initlint.values.schemes import expected, schemes
from initlint.values.statistics import read

Initialise = Callable[[torch.Tensor], object]


def statistics_of(tensor: torch.Tensor) -> Statistics:
    statistics = read({"it": tensor})["it"]
    assert isinstance(statistics, Statistics), statistics
    return statistics


def found(tensor: torch.Tensor, use: Use | None = None) -> tuple[Scheme, ...]:
    return schemes(statistics_of(tensor), tuple(tensor.shape), use)


def texts(tensor: torch.Tensor, use: Use | None = None) -> list[str]:
    return [scheme.text for scheme in found(tensor, use)]


def drawn(initialise: Initialise, shape: Shape, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    tensor = torch.empty(shape)
    initialise(tensor)
    return tensor


# ---------------------------------------------------------------- torch.nn.init

KNOWN: dict[str, tuple[Initialise, str]] = {
    "default": (lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)), "kaiming_uniform_(a=√5)"),
    "kaiming_uniform": (nn.init.kaiming_uniform_, "kaiming_uniform_(mode='fan_in')"),
    "kaiming_uniform out": (
        lambda w: nn.init.kaiming_uniform_(w, mode="fan_out"),
        "kaiming_uniform_(mode='fan_out')",
    ),
    "kaiming_normal": (nn.init.kaiming_normal_, "kaiming_normal_(mode='fan_in')"),
    "kaiming_normal out": (
        lambda w: nn.init.kaiming_normal_(w, mode="fan_out"),
        "kaiming_normal_(mode='fan_out')",
    ),
    "tanh": (
        lambda w: nn.init.kaiming_normal_(w, nonlinearity="tanh"),
        "kaiming_normal_(mode='fan_in', nonlinearity='tanh')",
    ),
    "selu": (
        lambda w: nn.init.kaiming_uniform_(w, nonlinearity="selu"),
        "kaiming_uniform_(mode='fan_in', nonlinearity='selu')",
    ),
    "lecun": (
        lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear"),
        "kaiming_normal_(mode='fan_in', nonlinearity='linear')",
    ),
    "leaky": (lambda w: nn.init.kaiming_uniform_(w, a=0.2), "kaiming_uniform_(mode='fan_in', a=0.2)"),
    "xavier_uniform": (nn.init.xavier_uniform_, "xavier_uniform_()"),
    "xavier_uniform √2": (lambda w: nn.init.xavier_uniform_(w, math.sqrt(2)), "xavier_uniform_(gain=√2)"),
    "xavier_normal": (nn.init.xavier_normal_, "xavier_normal_()"),
    "xavier_normal tanh": (lambda w: nn.init.xavier_normal_(w, 5 / 3), "xavier_normal_(gain=5/3)"),
    "orthogonal": (nn.init.orthogonal_, "orthogonal_()"),
    "orthogonal √2": (lambda w: nn.init.orthogonal_(w, math.sqrt(2)), "orthogonal_(gain=√2)"),
    "orthogonal 0.01": (lambda w: nn.init.orthogonal_(w, 0.01), "orthogonal_(gain=0.01)"),
    "normal 0.02": (lambda w: nn.init.normal_(w, std=0.02), "normal_(std=0.02)"),
    "normal 1": (nn.init.normal_, "normal_(std=1)"),
    "normal around 1": (lambda w: nn.init.normal_(w, 1.0, 0.02), "normal_(mean=1, std=0.02)"),
    "uniform": (nn.init.uniform_, "uniform_(0, 1)"),
    "uniform ±0.05": (lambda w: nn.init.uniform_(w, -0.05, 0.05), "uniform_(±0.05)"),
    "trunc_normal far": (lambda w: nn.init.trunc_normal_(w, std=0.02), "normal_(std=0.02)"),
    "trunc_normal near": (
        lambda w: nn.init.trunc_normal_(w, std=0.02, a=-0.04, b=0.04),
        "trunc_normal_(std=0.02, ±2 std)",
    ),
    "zeros": (nn.init.zeros_, "zeros_()"),
    "ones": (nn.init.ones_, "ones_()"),
    "constant": (lambda w: nn.init.constant_(w, 0.1), "constant_(0.1)"),
}
SHAPES: tuple[Shape, ...] = ((20, 17), (48, 100), (24, 20, 3, 3), (300, 200))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", KNOWN)
def test_schemes_of_nn_init_are_among_those_found(name: str, shape: Shape) -> None:
    initialise, text = KNOWN[name]
    for seed in range(3):
        result = found(drawn(initialise, shape, seed))
        assert text in [scheme.text for scheme in result]
        assert all(scheme.fit == "all" for scheme in result)


@pytest.mark.parametrize("name", KNOWN)
def test_schemes_of_nn_init_come_first_in_large_tensors(name: str) -> None:
    initialise, text = KNOWN[name]
    assert texts(drawn(initialise, (512, 410)))[0] == text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "name", ["default", "xavier_normal", "trunc_normal near", "orthogonal", "normal 0.02"]
)
def test_schemes_are_recognised_in_other_precisions(name: str, dtype: torch.dtype) -> None:
    initialise, text = KNOWN[name]
    assert text in texts(drawn(initialise, (200, 300)).to(dtype))


def test_eye_dirac_and_sparse() -> None:
    assert texts(drawn(nn.init.eye_, (40, 60))) == ["eye_()"]
    assert texts(drawn(nn.init.dirac_, (16, 8, 3, 3))) == ["dirac_()"]
    assert texts(drawn(lambda w: nn.init.dirac_(w, groups=2), (16, 8, 3))) == ["dirac_()"]
    sparse = found(drawn(lambda w: nn.init.sparse_(w, 0.3, std=0.05), (200, 100)))[0]
    assert (sparse.distribution, sparse.text) == ("sparse", "sparse_(sparsity=0.3, normal_(std=0.05))")
    assert sparse.std == pytest.approx(0.05 * math.sqrt(0.7), rel=1e-3)


def test_prescriptions_carry_their_figures() -> None:
    scheme = found(drawn(KNOWN["xavier_uniform"][0], (300, 200)))[0]
    assert scheme.name == "xavier_uniform_"
    assert (scheme.fan, scheme.fan_mode, scheme.gain, scheme.reading) == (250, "fan_avg", 1.0, "nn.init")
    assert scheme.bound == pytest.approx(math.sqrt(6 / 500))
    assert scheme.std == pytest.approx(math.sqrt(2 / 500))
    assert scheme.formula == "√(6/(fan_in+fan_out))"
    assert found(drawn(KNOWN["default"][0], (300, 200)))[0].formula == "1/√fan_in"
    assert found(drawn(KNOWN["kaiming_normal"][0], (300, 200)))[0].formula == "√(2/fan_in)"


# ---------------------------------------------------------------- layers of torch.nn and fans


def test_weights_and_biases_of_torch_layers() -> None:
    torch.manual_seed(0)
    assert texts(nn.Linear(70, 90).weight)[0] == "kaiming_uniform_(a=√5)"
    assert texts(nn.Conv2d(12, 60, 3).weight)[0] == "kaiming_uniform_(a=√5)"
    assert texts(nn.Embedding(500, 64).weight)[0] == "normal_(std=1)"
    assert texts(nn.LayerNorm(64).weight) == ["ones_()"]
    lstm = nn.LSTM(100, 64)
    recurrent = Use("recurrent", "aten.lstm", "", fan_in=100, fan_out=64)
    assert found(lstm.get_parameter("weight_ih_l0"), recurrent)[0].formula == "1/√hidden"
    assert "1/√hidden" in [scheme.formula for scheme in found(lstm.get_parameter("bias_hh_l0"))]
    bias = found(nn.Linear(300, 200).bias, Use("shift", "aten.addmm", "", fan_in=300, fan_out=200))[0]
    assert (bias.text, bias.reading) == ("kaiming_uniform_(a=√5)", "true")


def test_a_padding_row_does_not_hide_the_draw() -> None:
    torch.manual_seed(0)
    assert texts(nn.Embedding(30, 64, padding_idx=0).weight)[0] == "normal_(std=1)"


def test_the_traced_use_decides_whose_fan_it_is() -> None:
    """x @ W with W stored (in, out): nn.init takes the output size for the fan-in."""
    weight = drawn(lambda w: nn.init.kaiming_normal_(w, mode="fan_in"), (128, 512))
    use = Use("matrix", "aten.mm", "", fan_in=128, fan_out=512)
    by_reading = {(s.text, s.reading) for s in found(weight, use)}
    assert ("kaiming_normal_(mode='fan_in')", "nn.init") in by_reading
    assert ("kaiming_normal_(mode='fan_out')", "true") in by_reading
    assert ("kaiming_normal_(mode='fan_in')", "true") not in by_reading

    right = drawn(lambda w: nn.init.kaiming_normal_(w, mode="fan_out"), (128, 512))
    best = found(right, use)[0]
    assert (best.text, best.reading, best.fan) == ("kaiming_normal_(mode='fan_in')", "true", 128)


def test_depthwise_fan_out_is_told_from_the_true_one() -> None:
    kernel = nn.Conv2d(256, 256, 3, groups=256).weight.detach()
    nn.init.kaiming_normal_(kernel, mode="fan_out")
    result = found(kernel, Use("kernel", "aten.convolution", "", fan_in=9, fan_out=9, groups=256))
    assert {s.reading for s in result if s.fan_mode} == {"nn.init"}


def test_equal_readings_are_given_once() -> None:
    weight = drawn(nn.init.kaiming_normal_, (300, 200))
    result = found(weight, Use("matrix", "aten.mm", "", fan_in=200, fan_out=300))
    assert {s.reading for s in result if s.fan_mode} == {"true"}


def test_equal_numbers_give_all_their_formulas() -> None:
    weight = drawn(nn.init.kaiming_normal_, (256, 512))
    result = texts(weight)
    assert "kaiming_normal_(mode='fan_in')" in result
    assert "kaiming_normal_(mode='fan_out', nonlinearity='linear')" in result


def test_scale_by_depth() -> None:
    weight = drawn(lambda w: nn.init.normal_(w, std=0.02 / math.sqrt(24)), (768, 768))
    assert found(weight)[0].formula == "0.02/√(2·12)"


# ---------------------------------------------------------------- what is not recognised


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).laplace(size=(64, 64)),
        np.random.default_rng(0).standard_t(3, (64, 64)),
        np.random.default_rng(0).lognormal(size=(64, 64)),
        np.random.default_rng(0).choice([-1.0, 1.0], (64, 64)),
        np.sin(np.outer(np.arange(64), 0.9 ** np.arange(64))),
        np.log(np.tile(np.arange(1.0, 17), (64, 1))),
        np.concatenate([np.random.default_rng(0).normal(0, s, (64, 32)) for s in (1, 5)]),
    ],
    ids=["laplace", "student", "lognormal", "signs", "sinusoids", "A_log", "two scales"],
)
def test_unknown_distributions_are_not_recognised(values: NDArray[np.float64]) -> None:
    assert found(torch.from_numpy(values).float()) == ()


def test_unfit_tensors_have_no_scheme() -> None:
    assert found(torch.randn(5)) == ()
    assert found(torch.tensor([1.0, math.nan] * 50)) == ()
    assert found(torch.arange(1000)) == ()
    assert found(torch.randint(-9, 10, (200, 100)).float()) == ()


@pytest.mark.parametrize("count", [1, 3])
def test_single_values_that_stand_out_leave_the_bulk(count: int) -> None:
    weight = drawn(nn.init.xavier_normal_, (200, 300))
    weight.view(-1)[:count] = 25 * float(weight.std())
    result = found(weight)
    assert "xavier_normal_()" in [scheme.text for scheme in result]
    assert {scheme.fit for scheme in result} == {"bulk"}


# ---------------------------------------------------------------- properties


@settings(max_examples=60, deadline=None)
@given(
    st.integers(8, 300),
    st.integers(1, 40),
    st.floats(1e-8, 1e8),
    st.sampled_from(["normal", "uniform", "integers", "constant", "spike"]),
    st.integers(0, 2**32 - 1),
)
def test_any_tensor_is_judged_without_error(
    rows: int, columns: int, scale: float, kind: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    values = {
        "normal": random.normal(size=(rows, columns)),
        "uniform": random.uniform(size=(rows, columns)),
        "integers": random.integers(-2, 3, (rows, columns)).astype(float),
        "constant": np.ones((rows, columns)),
        "spike": np.eye(rows, columns),
    }[kind]
    for scheme in found(torch.from_numpy(values * scale).float()):
        assert scheme.std >= 0
        assert scheme.text
        assert scheme.bound is None or scheme.bound * 1.01 >= scheme.std


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-6, 1e3), st.integers(0, 1000))
def test_recognition_is_free_of_scale(factor: float, seed: int) -> None:
    weight = drawn(lambda w: nn.init.normal_(w, std=1.0), (60, 50), seed).double()
    plain, scaled = found(weight), found(weight * factor)
    assert plain[0].distribution == scaled[0].distribution == "normal"
    assert scaled[0].std == pytest.approx(factor, rel=0.1)


# ---------------------------------------------------------------- what is expected


def test_expected_takes_the_recognised_scheme_of_the_true_fans() -> None:
    use = Use("matrix", "aten.mm", "", fan_in=200, fan_out=300, activation="relu")
    weight = drawn(nn.init.xavier_uniform_, (300, 200))
    scheme = expected(use, found(weight, use))
    assert scheme is not None
    assert scheme.name == "xavier_uniform_"


@pytest.mark.parametrize(
    ("activation", "std", "formula"),
    [
        ("relu", math.sqrt(2 / 200), "√(2/fan_in)"),
        ("none", 1 / math.sqrt(200), "1/√fan_in"),
        (None, 1 / math.sqrt(200), "1/√fan_in"),
        ("softmax", 1 / math.sqrt(200), "1/√fan_in"),
        ("gelu", 1.5335 / math.sqrt(200), "1.53/√fan_in"),
    ],
)
def test_expected_follows_theory_otherwise(activation: str | None, std: float, formula: str) -> None:
    use = Use("matrix", "aten.mm", "", fan_in=200, fan_out=300, activation=activation)
    scheme = expected(use)
    assert scheme is not None
    assert scheme.std == pytest.approx(std, rel=1e-4)
    assert scheme.formula == formula
    assert expected(replace(use, role="lookup")) is None
    assert expected(replace(use, fan_in=None)) is None
    assert expected(None) is None


@pytest.mark.parametrize(("rows", "columns"), [(1, 64), (64, 1), (2, 64), (64, 2)])
def test_a_row_or_two_are_orthogonal_where_orthogonal_drew_them(rows: int, columns: int) -> None:
    def build() -> nn.Module:
        layer = nn.Linear(columns, rows)
        nn.init.orthogonal_(layer.weight, 2**0.5)
        return layer

    scheme = evidence(build).by_name["weight"].scheme
    assert scheme is not None
    assert scheme.text == "orthogonal_(gain=√2)"


@pytest.mark.parametrize("draw", [nn.init.kaiming_normal_, nn.init.xavier_normal_])
def test_of_schemes_that_fit_a_small_weight_the_one_that_was_called_comes_first(
    draw: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    def build() -> nn.Module:
        layer = nn.Linear(6, 6)
        draw(layer.weight)
        return layer

    scheme = evidence(build).by_name["weight"].scheme
    assert scheme is not None
    assert scheme.name == draw.__name__
