"""Reads every tensor's values once: moments, extremes, zeros, digest, equal slices, a sample.

The pass goes block by block, and a block stays in the cache until all figures are taken from it. Sums
run on one thread, since forking a team for 256 KB costs more than adding them up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from initlint.evidence import Statistics

BLOCK = 65_536  # values; as float32 a quarter of the smallest L2 cache in use today
SAMPLE = 512
DENSE_LIMIT = 1 << 26  # values up to which a sparse tensor is read as a dense one
ORTHOGONAL_ROWS = 8  # rows whose products are looked at

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ over the golden ratio, odd

Array = NDArray[Any]


def read(
    tensors: Mapping[str, torch.Tensor], *, parts: Mapping[str, int] = {}
) -> dict[str, Statistics | str]:
    """Statistics of every tensor by name, or the reason why its values cannot be read.

    `parts` gives by name the number of equal slices along axis 0 that a fused tensor consists of.
    Complex values count as two (real and imaginary part), quantised ones as what they stand for.
    """
    workspace = _Workspace()
    with _one_thread(), torch.no_grad():
        return {name: _read(tensor, parts.get(name, 1), workspace) for name, tensor in tensors.items()}


class _Workspace:
    """Blocks of memory that stay mapped, and in the cache, from one tensor to the next."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def block(self, purpose: str, dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised block of `BLOCK` values."""
        if (purpose, dtype) not in self._blocks:
            self._blocks[purpose, dtype] = torch.empty(BLOCK, dtype=dtype, device="cpu")
        return self._blocks[purpose, dtype]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _read(tensor: torch.Tensor, parts: int, workspace: _Workspace) -> Statistics | str:
    reason = _unreadable(tensor)
    if reason is not None:
        return reason
    try:
        values = _plain(tensor)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        return f"{tensor.dtype} on {tensor.device} cannot be read: {str(error).splitlines()[0]}"
    dtype = str(tensor.dtype)
    slices: tuple[Statistics, ...] = ()
    if parts > 1 and values.ndim and values.shape[0] % parts == 0:
        slices = tuple(_statistics(part, dtype, tensor.ndim, workspace) for part in values.chunk(parts))
    return _statistics(values, dtype, tensor.ndim, workspace, slices)


def _unreadable(tensor: torch.Tensor) -> str | None:
    """Why a tensor has no values to look at, if so."""
    if torch.nn.parameter.is_lazy(tensor):
        return "lazy: not yet materialised"
    if type(tensor).__torch_dispatch__ != torch.Tensor.__torch_dispatch__:
        return f"{type(tensor).__name__}: a tensor subclass that does not hold plain values"
    if tensor.is_meta:
        return "on the meta device: no values"
    if tensor.is_nested:
        return "nested tensor: no regular shape"
    if tensor.numel() == 0:
        return "no elements"
    if tensor.layout is not torch.strided and tensor.numel() > DENSE_LIMIT:
        return f"sparse tensor ({tensor.layout}), too large to be read as a dense one"
    return None


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The same values as a dense, contiguous CPU tensor of real numbers that numpy and torch can add up."""
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.as_subclass(torch.Tensor)
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    tensor = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    tensor.reshape(-1)[:1].to(torch.float32)  # raises for dtypes without arithmetic
    return tensor


def _statistics(
    values: torch.Tensor, dtype: str, axes: int, workspace: _Workspace, parts: tuple[Statistics, ...] = ()
) -> Statistics:
    """Statistics of a plain tensor whose first `axes` dimensions are those of the tensor it stands for."""
    flat = values.reshape(-1)
    digest = xxhash.xxh3_128(f"{dtype}{tuple(values.shape)}".encode())
    sums = _moments(flat, digest, workspace)
    if sums is None:
        sums = _careful_moments(flat, workspace)
    matrix = values.dtype.is_floating_point and axes > 1
    duplicates, constants = _equal_slices(values, sums, axes) if matrix else ((), ())
    return Statistics(
        count=flat.numel(),
        minimum=sums.minimum,
        maximum=sums.maximum,
        mean=sums.mean,
        std=sums.std,
        skewness=sums.skewness,
        kurtosis=sums.kurtosis,
        zeros=sums.zeros,
        nans=sums.nans,
        infs=sums.infs,
        subnormals=sums.subnormals,
        digest=digest.hexdigest(),
        duplicates=duplicates,
        constant_slices=constants,
        sample=_sample(flat),
        orthogonality=_orthogonality(values) if matrix and axes == values.ndim and sums.std > 0 else None,
        parts=parts,
    )


# ---------------------------------------------------------------- moments


@dataclass(frozen=True, slots=True)
class _Moments:
    minimum: float
    maximum: float
    mean: float
    std: float
    skewness: float
    kurtosis: float
    zeros: int
    nans: int = 0
    infs: int = 0
    subnormals: int = 0


def _working(dtype: torch.dtype) -> torch.dtype:
    """What the sums are taken in: float32 for floating types up to 32 bits, else float64."""
    return torch.float32 if dtype.is_floating_point and dtype.itemsize <= 4 else torch.float64


def _smallest_normal(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).smallest_normal if dtype.is_floating_point else 0.0


def _blocks(
    flat: torch.Tensor, dtype: torch.dtype, workspace: _Workspace
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of a block as stored and its values in `dtype`; the second is overwritten by the next."""
    if flat.dtype == dtype:
        for block in torch.split(flat, BLOCK):
            yield block, block
        return
    buffer = workspace.block("copies", dtype)
    for block in torch.split(flat, BLOCK):
        yield block, buffer[: block.numel()].copy_(block)


def _moments(flat: torch.Tensor, digest: xxhash.xxh3_128, workspace: _Workspace) -> _Moments | None:
    """Moments from raw power sums, each block read once; None where these cannot be trusted.

    Raw sums lose the central moments when the mean outweighs the std, and overflow or turn non-finite
    with very large or non-finite values. The digest is complete in either case.
    """
    n = flat.numel()
    dtype = _working(flat.dtype)
    tiny = _smallest_normal(flat.dtype)
    squares = workspace.block("squares", dtype)
    s1 = s2 = s3 = s4 = 0.0
    minimum, maximum, zeros, subnormals = math.inf, -math.inf, 0, 0
    for stored, x in _blocks(flat, dtype, workspace):
        digest.update(stored.view(torch.uint8).numpy().data)
        square = torch.mul(x, x, out=squares[: x.numel()])
        s1 += x.sum().item()
        s2 += torch.dot(x, x).item()
        s3 += torch.dot(x, square).item()
        s4 += torch.dot(square, square).item()
        array = x.numpy()
        minimum = min(minimum, np.minimum.reduce(array).item())
        maximum = max(maximum, np.maximum.reduce(array).item())
        if np.minimum.reduce(square.numpy()) <= tiny * tiny:
            nonzero = int(np.count_nonzero(array))
            zeros += array.size - nonzero
            subnormals += nonzero - int(np.count_nonzero(np.abs(array) >= tiny))
    if not math.isfinite(s4):
        return None
    if minimum == maximum:
        return _Moments(minimum, maximum, minimum, 0.0, 0.0, 0.0, zeros, subnormals=subnormals)
    mean, m2, m3, m4 = s1 / n, s2 / n, s3 / n, s4 / n
    variance = m2 - mean * mean
    if variance <= mean * mean or m4 < 1e-30:
        return None
    third = m3 - 3 * mean * m2 + 2 * mean**3
    fourth = m4 - 4 * mean * m3 + 6 * mean**2 * m2 - 3 * mean**4
    return _Moments(
        minimum,
        maximum,
        mean,
        math.sqrt(variance),
        third / variance**1.5,
        fourth / variance**2,
        zeros,
        subnormals=subnormals,
    )


def _careful_moments(flat: torch.Tensor, workspace: _Workspace) -> _Moments:
    """Moments of the finite values in float64, shifted by their mean and scaled by their spread."""
    tiny = _smallest_normal(flat.dtype)
    minimum, maximum, total, count = math.inf, -math.inf, 0.0, 0
    zeros = nans = subnormals = 0
    for _, x in _blocks(flat, torch.float64, workspace):
        array = x.numpy()
        nans += int(np.count_nonzero(np.isnan(array)))
        finite = array[np.isfinite(array)]
        if finite.size:
            minimum, maximum = min(minimum, finite.min().item()), max(maximum, finite.max().item())
            total += (finite / flat.numel()).sum().item()  # divided first: a sum of huge values overflows
            count += finite.size
            zeros += finite.size - int(np.count_nonzero(finite))
            subnormals += int(np.count_nonzero((np.abs(finite) < tiny) & (finite != 0)))
    infs = flat.numel() - count - nans
    if count == 0 or minimum == maximum:
        value, spread = (minimum, 0.0) if count else (math.nan, math.nan)
        return _Moments(value, value, value, spread, spread, spread, zeros, nans, infs, subnormals)
    mean = min(max(total * (flat.numel() / count), minimum), maximum)
    spread = max(maximum / 2 - mean / 2, mean / 2 - minimum / 2) * 2
    sums = np.zeros(4)
    for _, x in _blocks(flat, torch.float64, workspace):
        array = x.numpy()
        z = (array[np.isfinite(array)] - mean) / spread if nans or infs else (array - mean) / spread
        square = z * z
        sums += (z.sum(), square.sum(), (z * square).sum(), (square * square).sum())
    m1, m2, m3, m4 = (sums / count).tolist()
    variance = m2 - m1 * m1
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return _Moments(
        minimum,
        maximum,
        mean + m1 * spread,
        math.sqrt(variance) * spread,
        third / variance**1.5,
        fourth / variance**2,
        zeros,
        nans,
        infs,
        subnormals,
    )


def _sample(flat: torch.Tensor) -> tuple[float, ...]:
    """Up to 512 finite values, sorted, from places spread evenly."""
    drawn = flat[_places(flat.numel())] if flat.numel() > SAMPLE else flat
    values = drawn.to(torch.float64).numpy()
    return tuple(np.sort(values[np.isfinite(values)]).tolist())


@lru_cache(maxsize=256)
def _places(n: int) -> torch.Tensor:
    """Multiples of the golden ratio modulo 1: evenly spread, and in step with no row length (Weyl 1916)."""
    return torch.from_numpy(np.unique((np.arange(SAMPLE) * 0.6180339887498949 % 1 * n).astype(np.int64)))


def _orthogonality(values: torch.Tensor) -> float | None:
    """Largest departure of W·Wᵀ from a multiple of I over some rows (columns of a tall matrix)."""
    matrix = values.reshape(values.shape[0], -1)
    rows = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    if rows.shape[0] < 2:
        return None
    some = rows[:ORTHOGONAL_ROWS].to(torch.float64)
    gram = (some @ some.T).numpy()
    scale = np.trace(gram) / len(gram)
    if not scale > 0 or not math.isfinite(scale):
        return None
    return float(np.abs(gram / scale - np.eye(len(gram))).max())


# ---------------------------------------------------------------- equal slices


def _equal_slices(values: torch.Tensor, sums: _Moments, axes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Per axis: exact copies of an earlier slice, and slices that are one constant (in bits).

    A slice of a single value is neither.
    """
    shape = tuple(values.shape)
    slices = tuple(n if math.prod(shape) > n else 0 for n in shape[:axes])
    if sums.minimum == sums.maximum and not sums.nans and not sums.infs:
        return tuple(max(n - 1, 0) for n in slices), slices
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    bits = values.view(integers).numpy()
    duplicates, constants = [], []
    for axis, n in enumerate(slices):
        cube = bits.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
        duplicates.append(_duplicates(cube) if n > 1 else 0)
        constants.append(_constants(cube) if n else 0)
    return tuple(duplicates), tuple(constants)


def _rectangles(lead: int, trail: int, area: int) -> Iterator[tuple[slice, slice]]:
    """Cuts of a lead × trail plane that cover it once, small ones first, none much above `area`."""
    start, width = 0, 4
    while start < trail:
        yield slice(0, 1), slice(start, start + width)
        start, width = start + width, min(width * 4, area)
    start, height = 1, 1
    limit = max(area // trail, 1)
    while start < lead:
        yield slice(start, start + height), slice(0, trail)
        start, height = start + height, min(height * 4, limit)


def _area(slices: int) -> int:
    return max((1 << 21) // max(slices, 1), 8)


def _taken(cube: Array, rows: slice, which: Array, columns: slice) -> Array:
    """cube[rows, which, columns], as a view when `which` is all slices."""
    block = cube[rows, :, columns]
    return block if len(which) == cube.shape[1] else block[:, which]


def _duplicates(cube: Array) -> int:
    """Slices cube[:, i] that are exact copies of an earlier one.

    Slices are told apart by a hash of their first few elements, and only those that still look alike
    are read on; what is left at the end is compared element by element.
    """
    lead, n, trail = cube.shape
    alive = np.arange(n)
    key = np.zeros(n, np.uint64)
    for salt, (rows, columns) in enumerate(_rectangles(lead, trail, _area(n))):
        block = _taken(cube, rows, alive, columns)
        factors = _odd_numbers(block.shape[0] * block.shape[2], salt).reshape(block.shape[0], -1)
        key = key * GOLDEN + np.einsum("lnt,lt->n", block.astype(np.uint64), factors)
        order = np.sort(key)
        repeated = order[1:][order[1:] == order[:-1]]
        if not repeated.size:
            return 0
        keep = np.isin(key, repeated)
        alive, key = alive[keep], key[keep]
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    leaders = alive[first][group]
    alive, leaders = alive[alive != leaders], leaders[alive != leaders]
    equal = np.ones(len(alive), bool)
    for rows, columns in _rectangles(lead, trail, _area(len(alive))):
        block = cube[rows, :, columns]
        equal &= (block[:, alive] == block[:, leaders]).all(axis=(0, 2))
    return int(equal.sum())


@lru_cache(maxsize=256)
def _odd_numbers(n: int, salt: int) -> NDArray[np.uint64]:
    """Pseudo-random odd multipliers (the finaliser of splitmix64)."""
    z = np.arange(1 + (salt << 32), 1 + (salt << 32) + n, dtype=np.uint64) * GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


def _constants(cube: Array) -> int:
    """Slices cube[:, i] whose elements are all the same."""
    alive = np.arange(cube.shape[1])
    first = cube[0, :, 0]
    for rows, columns in _rectangles(cube.shape[0], cube.shape[2], _area(cube.shape[1])):
        block = _taken(cube, rows, alive, columns)
        alive = alive[(block == first[alive][None, :, None]).all(axis=(0, 2))]
        if not alive.size:
            break
    return len(alive)
