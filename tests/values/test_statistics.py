"""Statistics against plain reference reductions, on every kind of tensor a model may hold."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from initlint.evidence.values import Statistics
from initlint.values.statistics import BLOCK, SAMPLE, read


def of(tensor: torch.Tensor, parts: int = 1) -> Statistics:
    statistics = read({"it": tensor}, parts={"it": parts})["it"]
    assert isinstance(statistics, Statistics), statistics
    return statistics


def reason(tensor: torch.Tensor) -> str:
    text = read({"it": tensor})["it"]
    assert isinstance(text, str)
    return text


def assert_agrees(statistics: Statistics, values: np.ndarray[Any, Any], rel: float = 1e-4) -> None:
    """Compares with the definitions, evaluated in float64 on the finite values."""
    x = values.astype(np.float64).ravel()
    x = x[np.isfinite(x)]
    centred = (x - x.mean()) / (x.std() or 1.0)
    assert statistics.count == values.size
    assert statistics.minimum == x.min()
    assert statistics.maximum == x.max()
    assert statistics.mean == pytest.approx(x.mean(), rel=rel, abs=rel * x.std() + 1e-300)
    assert statistics.std == pytest.approx(x.std(), rel=rel)
    assert statistics.skewness == pytest.approx((centred**3).mean(), rel=rel, abs=1e-3)
    assert statistics.kurtosis == pytest.approx((centred**4).mean(), rel=10 * rel)
    assert statistics.zeros == int((x == 0).sum())


def slices_by_hand(values: np.ndarray[Any, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    duplicates, constants = [], []
    for axis in range(values.ndim):
        slices = [s.tobytes() for s in np.moveaxis(values, axis, 0)]
        single = values.size == len(slices)
        duplicates.append(0 if single else len(slices) - len(set(slices)))
        constants.append(0 if single else sum(len(np.unique(s)) == 1 for s in np.moveaxis(values, axis, 0)))
    return tuple(duplicates), tuple(constants)


# ---------------------------------------------------------------- moments


@pytest.mark.parametrize("n", [2, 3, 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_moments_are_those_of_the_definition(n: int, dtype: torch.dtype) -> None:
    torch.manual_seed(n)
    tensor = (torch.randn(n) * 0.02).to(dtype)
    assert_agrees(of(tensor), tensor.double().numpy())


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(1000) * 0.01 + 100,
        torch.rand(BLOCK * 2) + 1e4,
        torch.randn(1000) * 1e30,
        torch.randn(1000) * 1e-30,
        torch.randn(1000).double() * 1e300,
        torch.randn(1000).double() * 1e-200,
        torch.cat([torch.randn(1000) * 1e-6, torch.tensor([50.0])]),
        torch.arange(10),
        torch.tensor([True, False, True]),
        torch.tensor([2**53, 2**53 + 2]),
        torch.tensor([1, 255], dtype=torch.uint8),
    ],
    ids=lambda tensor: f"{tensor.dtype}"[6:],
)
def test_moments_survive_extreme_scales(tensor: torch.Tensor) -> None:
    scaled = tensor.double().numpy()
    factor = np.abs(scaled).max()
    statistics = of(tensor)
    assert statistics.minimum == scaled.min()
    assert statistics.maximum == scaled.max()
    assert statistics.mean / factor == pytest.approx((scaled / factor).mean(), rel=1e-5, abs=1e-8)
    assert statistics.std / factor == pytest.approx((scaled / factor).std(), rel=1e-4)
    centred = scaled / factor - (scaled / factor).mean()
    kurtosis = (centred**4).mean() / (centred**2).mean() ** 2
    assert statistics.kurtosis == pytest.approx(kurtosis, rel=1e-3)


def test_non_finite_values_are_counted_and_left_out() -> None:
    tensor = torch.randn(70_000)
    tensor[5], tensor[69_999], tensor[17], tensor[18] = math.nan, math.nan, math.inf, -math.inf
    statistics = of(tensor)
    assert (statistics.nans, statistics.infs) == (2, 2)
    assert_agrees(statistics, tensor.numpy())
    assert all(math.isfinite(x) for x in statistics.sample)


def test_nothing_finite() -> None:
    statistics = of(torch.full((3, 3), math.nan))
    assert statistics.nans == 9
    assert math.isnan(statistics.mean)
    assert not statistics.constant
    assert statistics.sample == ()


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1e-40, 3e38])
def test_constants_are_exact(value: float) -> None:
    statistics = of(torch.full((7, BLOCK // 4), value))
    assert statistics.constant
    assert statistics.mean == statistics.minimum == torch.tensor(value).item()
    assert statistics.std == statistics.kurtosis == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_zeros_and_subnormals(dtype: torch.dtype) -> None:
    smallest = torch.finfo(dtype).smallest_normal
    tensor = torch.tensor([0.0, -0.0, smallest / 2, -smallest / 4, smallest, 1.0, 2.0], dtype=dtype)
    statistics = of(tensor)
    assert statistics.zeros == 2
    assert statistics.subnormals == 2


# ---------------------------------------------------------------- equal slices


@settings(max_examples=150, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=5, max_side=6),
        elements=st.sampled_from([1.0, 2.0, 3.0]),
    )
)
def test_equal_and_constant_slices_of_any_array(values: np.ndarray[Any, Any]) -> None:
    statistics = of(torch.from_numpy(values))
    assert (statistics.duplicates, statistics.constant_slices) == slices_by_hand(values)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_copies_are_found_on_every_axis(axis: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    kernel = torch.randn(24, 20, 5, 7).to(dtype)
    assert of(kernel).duplicates == (0, 0, 0, 0)
    kernel.select(axis, 4).copy_(kernel.select(axis, 1))
    kernel.select(axis, 2).copy_(kernel.select(axis, 1))
    expected = [0, 0, 0, 0]
    expected[axis] = 2
    assert of(kernel).duplicates == tuple(expected)


@pytest.mark.parametrize("at", [(0, 0), (9, 300), (499, 699), (499, 0), (0, 699)])
def test_slices_that_differ_in_one_element_are_not_copies(at: tuple[int, int]) -> None:
    matrix = torch.zeros(500, 700)
    matrix[at] = 1.0
    assert of(matrix).duplicates == (498, 698)
    assert of(matrix).constant_slices == (499, 699)


def test_structured_matrices() -> None:
    assert of(torch.eye(300)).duplicates == (0, 0)
    assert of(torch.randn(40, 1).expand(40, 30)).duplicates == (0, 29)
    assert of(torch.randn(40, 1).expand(40, 30)).constant_slices == (40, 0)
    wide = torch.randn(50, 64)
    assert of(torch.cat([wide, wide])).duplicates == (50, 0)
    assert of(torch.randn(1000, 1)).duplicates == (0, 0)


# ---------------------------------------------------------------- digest, sample, parts


def test_digest_tells_values_shapes_and_types_apart() -> None:
    values = torch.randn(12, 10)
    flipped = values.clone()
    flipped.view(torch.int32)[11, 9] ^= 1
    others = [flipped, values.reshape(10, 12), values.double(), values.flatten(), values.T]
    digests = {of(tensor).digest for tensor in others}
    assert of(values.clone()).digest == of(values.T.contiguous().T).digest
    assert len(digests) == len(others)
    assert of(values).digest not in digests


@given(st.integers(1, 5000))
@settings(max_examples=60, deadline=None)
def test_sample_is_sorted_distinct_and_even(n: int) -> None:
    sample = of(torch.arange(n, dtype=torch.float64)).sample
    assert list(sample) == sorted(set(sample))
    assert len(sample) == n if n <= SAMPLE else SAMPLE // 2 < len(sample) <= SAMPLE
    gaps = np.diff([-1.0, *sample, n])
    assert gaps.max() <= max(3.0 * n / SAMPLE + 1, 3)


@pytest.mark.parametrize("shape", [(1024, 512), (512, 1024), (2048, 768), (333, 512)])
def test_sample_is_in_step_with_no_row_length(shape: tuple[int, int]) -> None:
    columns = torch.arange(shape[1]).float().expand(shape)
    assert len(set(of(columns).sample)) > 250


def test_parts_are_equal_slices_along_axis_0() -> None:
    fused = torch.cat([torch.full((4, 8), 1.0), torch.randn(4, 8), torch.zeros(4, 8)])
    parts = of(fused, parts=3).parts
    assert [p.constant for p in parts] == [True, False, True]
    assert parts[1] == of(fused[4:8])
    assert of(fused, parts=5).parts == ()
    assert of(torch.tensor(1.0), parts=3).parts == ()


def test_orthogonality() -> None:
    torch.manual_seed(0)
    for shape in ((64, 100), (100, 64), (32, 16, 3, 3)):
        near = of(nn.init.orthogonal_(torch.empty(shape), gain=3.0)).orthogonality
        far = of(torch.randn(shape)).orthogonality
        assert near is not None
        assert far is not None
        assert near < 1e-4 < 0.05 < far
    assert of(torch.randn(10)).orthogonality is None
    assert of(torch.zeros(4, 4)).orthogonality is None


# ---------------------------------------------------------------- odd tensors


class Marked(nn.Parameter):
    """A parameter subclass as user code has them."""


def test_plain_odd_tensors() -> None:
    values = torch.randn(6, 8)
    assert_agrees(of(Marked(values)), values.numpy())
    assert_agrees(of(nn.Parameter(values).T), values.T.numpy())
    assert_agrees(of(values[::2, 1:]), values[::2, 1:].numpy())
    assert_agrees(of(values[:, :1].expand(6, 5)), values[:, :1].expand(6, 5).numpy())
    scalar = of(torch.tensor(2.5))
    assert (scalar.count, scalar.mean, scalar.std, scalar.sample) == (1, 2.5, 0.0, (2.5,))


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.complex32])
def test_complex_values_count_as_two(dtype: torch.dtype) -> None:
    values = torch.randn(5, 7, dtype=torch.complex64).to(dtype)
    values[3] = values[1]
    for tensor in (values, values.conj()):
        statistics = of(tensor)
        assert_agrees(statistics, torch.view_as_real(tensor.resolve_conj()).double().numpy())
        assert statistics.duplicates == (1, 0)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8(dtype: torch.dtype) -> None:
    values = torch.randn(20, 30).to(dtype)
    assert_agrees(of(values), values.double().numpy())


def test_sparse_and_quantised_tensors_are_read_as_what_they_stand_for() -> None:
    dense = torch.eye(5) * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        others = [
            dense.to_sparse(),
            dense.to_sparse_csr(),
            torch.quantize_per_tensor(dense, 0.5, 0, torch.qint8),
        ]
    for tensor in others:
        assert_agrees(of(tensor), dense.numpy())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_reasons() -> None:
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        fake = torch.zeros(3)
    assert reason(torch.empty(0, 3)) == "no elements"
    assert reason(torch.empty(3, device="meta")) == "on the meta device: no values"
    assert reason(nn.LazyLinear(3).weight) == "lazy: not yet materialised"
    assert reason(fake).startswith("FakeTensor")
    assert "cannot be read" in reason(torch.zeros(4, dtype=torch.uint8).view(torch.bits8))
    assert reason(torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])).startswith("nested")


def test_reading_leaves_everything_as_it_was() -> None:
    weight = nn.Parameter(torch.randn(40, 30).T)
    before, version, threads = weight.detach().clone(), weight._version, torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        of(weight)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert weight._version == version
    assert weight.grad is None
    assert torch.equal(weight, before)
