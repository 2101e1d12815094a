"""Reductions of tensors that flow through a model: a handful each, on any device.

Non-finite values and dead units are exact. Moments, zeros and the largest magnitude are read from at most
`SAMPLE` values: tensors above that are read at every k-th index of their longest axes, batch and units
kept whole as long as others are left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, inf, isfinite, prod, sqrt

import numpy as np
import numpy.typing as npt
import torch

from initlint.evidence import Scale

Array = npt.NDArray[np.floating]

SAMPLE = 1 << 16  # moments of this many values are within 0.5 %
MOST_ROWS = 256  # inputs whose covariance is looked at
_NATIVE = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


@dataclass(frozen=True, slots=True)
class Reductions:
    """An output's scale and what its units do. `observations` are the values seen per unit."""

    scale: Scale
    units: int = 0
    dead_units: int = 0
    observations: int = 0
    across_inputs: float | None = None
    independence: float = 1.0


def is_readable(tensor: torch.Tensor) -> bool:
    """A dense floating or complex tensor with values; one that stands for others has none itself."""
    return (
        type(tensor).__torch_dispatch__ == torch.Tensor.__torch_dispatch__
        and (tensor.is_floating_point() or tensor.is_complex())
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and not tensor.is_meta
        and tensor.numel() > 0
        and not torch._C._functorch.is_legacy_batchedtensor(tensor)  # of a backward with several gradients
    )


def as_real(tensor: torch.Tensor) -> torch.Tensor:
    """The same values, real (complex as a trailing axis of two) and of a type that reductions take."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor if tensor.dtype in _NATIVE else tensor.float()


def sample(tensor: torch.Tensor, keep: tuple[int, ...] = ()) -> torch.Tensor:
    """At most `SAMPLE` values in float32 or float64; the axes `keep` are thinned out last, and backwards."""
    if tensor.numel() > SAMPLE:
        others = [axis for axis in range(tensor.dim()) if axis not in keep]
        for axis in (*sorted(others, key=lambda d: -tensor.shape[d]), *reversed(keep)):
            step = min(ceil(tensor.numel() / SAMPLE), tensor.shape[axis])
            tensor = tensor[(slice(None),) * axis + (slice(None, None, step),)]
            if tensor.numel() <= SAMPLE:
                break
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def scale(tensor: torch.Tensor, *, masks: bool = False) -> Scale:
    """Scale of all values; with `masks`, -inf is taken for an attention mask and not counted."""
    return reductions(tensor, None, None, masks=masks).scale


def reductions(
    tensor: torch.Tensor,
    units: int | None,
    batch: int | None,
    *,
    masks: bool = False,
    rectified: bool = False,
) -> Reductions:
    """Reductions of an output; `units` is the axis of its units, `batch` the number of inputs behind it.

    With `rectified`, units that are zero for every observation are counted.
    """
    tensor = as_real(tensor.detach())
    count = tensor.shape[units] if units is not None else 0
    axis = _batch_axis(tuple(tensor.shape), batch)
    if axis == 0 and batch is not None and tensor.shape[0] != batch:
        tensor = tensor.reshape(batch, -1, *tensor.shape[1:])
        units = None if units is None else units + 1
    thinned = sample(tensor, tuple([d for d in (axis, units) if d is not None]))
    values = thinned.cpu().numpy()
    dead = _dead_units(tensor, units) if rectified and units is not None else 0
    if not _is_finite(tensor):
        return Reductions(_finite_scale(tensor, values, masks), count, dead, _observations(tensor, count))
    absmax = max(float(values.max()), -float(values.min()))
    # Squares beyond 1e38 overflow float32, those below 1e-38 vanish.
    unit = 1.0 if absmax == 0 or 1e-15 < absmax < 1e15 else absmax
    values = values if unit == 1.0 else values / unit
    rows = np.moveaxis(values, axis, 0) if axis is not None and values.shape[axis] > 1 else None
    across = _spread_over_inputs(rows) if rows is not None else None
    independence = _independence(rows) if rows is not None else 1.0
    measured = _moments(values.reshape(-1), absmax, unit)
    return Reductions(measured, count, dead, _observations(tensor, count), across, independence)


def _independence(rows: Array) -> float:
    """How many of the inputs differ in ways of their own, as a share of all of them.

    The participation ratio (Σλ)²/Σλ² of the covariance between inputs: points of a plane are told apart by
    two numbers each, however many they are.
    """
    count = len(rows)
    if count < 3:
        return 1.0
    few = rows[:: ceil(count / MOST_ROWS)].reshape(-1, rows.size // count)
    offset = few - few.mean(0)
    offset /= np.abs(offset).max() or 1  # squares of squares stay finite
    products = offset @ offset.T
    trace, square = float(np.trace(products)), float(np.square(products).sum())
    return min(trace * trace / square / len(few), 1.0) if square > 0 else 1.0


def _observations(tensor: torch.Tensor, units: int) -> int:
    return tensor.numel() // units if units else 0


def _is_finite(tensor: torch.Tensor) -> bool:
    """A finite sum holds only finite values; another one may still have overflowed."""
    return isfinite(float(tensor.sum())) or bool(tensor.isfinite().all())


def _dead_units(tensor: torch.Tensor, units: int) -> int:
    """Units that hold only zeros."""
    others = [d for d in range(tensor.dim()) if d != units]
    return int(((tensor.amin(others) == 0) & (tensor.amax(others) == 0)).sum()) if others else 0


def _batch_axis(shape: tuple[int, ...], batch: int | None) -> int | None:
    """The axis along which inputs are told apart: 0 (inputs may be flattened into it), else 1."""
    if batch is None or len(shape) < 2:
        return None
    if shape[0] % batch == 0:
        return 0
    return 1 if shape[1] == batch else None


def _moments(values: Array, absmax: float, unit: float) -> Scale:
    """Scale of `values` times `unit`."""
    mean = float(values.mean())
    offset = values - mean
    variance = float(np.dot(offset, offset)) / values.size
    return Scale(
        rms=sqrt(mean * mean + variance) * unit,
        mean=mean * unit,
        std=sqrt(variance) * unit,
        absmax=absmax,
        zeros=float(np.count_nonzero(values == 0)) / values.size,
    )


def _finite_scale(tensor: torch.Tensor, values: Array, masks: bool) -> Scale:
    """Moments over the finite values, counts over all of them."""
    nans = int(tensor.isnan().sum())
    infs = int((tensor == inf).sum() if masks else tensor.isinf().sum())
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Scale(0.0, 0.0, 0.0, 0.0, 0.0, nans, infs)
    absmax = float(np.abs(finite).max())
    found = _moments(finite / (absmax or 1.0), absmax, absmax or 1.0)
    return replace(found, nans=nans, infs=infs)


def _spread_over_inputs(values: Array) -> float | None:
    """How much inputs, along axis 0, matter: std over the inputs relative to the rms."""
    steps = (values[1:] - values[:-1]).reshape(-1)
    flat = values.reshape(-1)
    square = float(np.dot(flat, flat)) / flat.size
    return sqrt(float(np.dot(steps, steps)) / (2 * steps.size) / square) if square else None


# ---------------------------------------------------------------- saturation

#: Distance from its ends at which a squashing function counts as flat: its slope is below 4 % of the largest.
FLAT = 0.01
PEAK, LOG_PEAK = 0.99, -0.01005  # of a softmax row, and its logarithm
MASKED = -9e3  # a score below this is a mask: minus infinity, the smallest number, -1e9, -1e4
#: Smallest input at which the slope of a function with one flat side still exceeds 1 %.
FLAT_BELOW = {
    "gelu": -3.1,
    "silu": -6.3,
    "mish": -5.4,
    "elu": -4.6,
    "selu": -4.6,
    "celu": -4.6,
    "softplus": -4.6,
}
ENDS = {
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "erf": (-1.0, 1.0),
}


def saturated_share(activation: str, output: torch.Tensor, operand: torch.Tensor | None) -> float:
    """Fraction on the flat part; `operand` is what the activation was applied to, None if overwritten.

    Values that a mask put there are left out.
    """
    if activation in ENDS:
        low, high = ENDS[activation]
        values = sample(as_real(output.detach())).cpu().numpy()
        flat = (values < low + FLAT) | (values > high - FLAT)
        if operand is not None and operand.shape == output.shape:
            flat = flat[sample(as_real(operand.detach())).cpu().numpy() > MASKED]
        return float(np.count_nonzero(flat)) / max(flat.size, 1)
    if activation in FLAT_BELOW and operand is not None:
        values = sample(as_real(operand.detach())).cpu().numpy()
        return float(np.count_nonzero(values < FLAT_BELOW[activation])) / values.size
    return 0.0


def peaked_share(output: torch.Tensor, scores: torch.Tensor | None, axis: int, *, log: bool) -> float:
    """Fraction of the rows of a softmax along `axis` whose largest value is above 0.99.

    Rows in which a mask leaves one choice are left out; `scores` are what the softmax was applied to.
    """
    if output.dim() == 0 or output.shape[axis] < 2:
        return 0.0
    values = sample(as_real(output.detach()), (axis % output.dim(),))
    peaked = values.amax(axis) > (LOG_PEAK if log else PEAK)
    if scores is None or scores.shape != output.shape:
        return float(peaked.float().mean())
    free = (sample(as_real(scores.detach()), (axis % output.dim(),)) > MASKED).sum(axis) > 1
    return float((peaked & free).sum()) / max(int(free.sum()), 1)


# ---------------------------------------------------------------- gradients

TOLERANCE = 1e-5  # of a slice's largest value: sums taken in another order differ by less
SHORT = 8  # slices with fewer values come that close by chance
EXACT = float(np.finfo(np.float32).eps)


def duplicates(gradient: torch.Tensor, absmax: float) -> tuple[int, ...]:
    """Per axis: slices that equal an earlier one, all-zero slices left out; kernel axes are not compared.

    `absmax` is the largest magnitude in the gradient.
    """
    gradient = as_real(gradient.detach())
    if gradient.dim() < 2 or not gradient.numel():
        return (0,) * gradient.dim()
    gradient = gradient.float().contiguous()
    axes = 2 if gradient.dim() > 3 else gradient.dim()
    return tuple(
        [_equal_slices(gradient, axis, absmax) if axis < axes else 0 for axis in range(gradient.dim())]
    )


def _equal_slices(gradient: torch.Tensor, axis: int, absmax: float) -> int:
    """A random projection sorts equal slices side by side; only neighbours that agree in it are compared."""
    count = gradient.shape[axis]
    if count < 2:
        return 0
    before, after = prod(gradient.shape[:axis]), prod(gradient.shape[axis + 1 :])
    left, right = _direction(before).to(gradient.device), _direction(after).to(gradient.device)
    rows = gradient.view(before, count * after) if before > 1 else None
    folded = gradient.view(count, after) if rows is None else torch.mv(rows.t(), left).view(count, after)
    projected = torch.mv(folded, right).cpu().numpy() if after > 1 else folded[:, 0].cpu().numpy()
    order = np.argsort(projected)
    order = order[projected[order] != 0]
    tolerance = TOLERANCE if before * after >= SHORT else EXACT
    largest = float(np.abs(projected).max())
    # Slices within `tolerance` of each other project within a few times that of their own size.
    close = np.diff(projected[order]) <= 8 * tolerance * largest
    if not close.any():
        return 0
    first, second = torch.from_numpy(order[:-1][close]), torch.from_numpy(order[1:][close])
    slices = gradient.view(before, count, after)
    few = slices[:: max(1, before // 8), :, :: max(1, after // 8)]
    equal = _equal_pairs(few, first, second, tolerance * absmax)
    first, second = first[equal], second[equal]
    sizes = slices[:, first].abs().amax((0, 2)) if first.numel() else slices.new_zeros(0)
    return int(_equal_pairs(slices, first, second, tolerance * sizes).sum())


def _equal_pairs(
    slices: torch.Tensor, first: torch.Tensor, second: torch.Tensor, bound: float | torch.Tensor
) -> torch.Tensor:
    """Which pairs of slices along axis 1 differ by no more than `bound` anywhere."""
    if not first.numel():
        return torch.zeros(0, dtype=torch.bool, device="cpu")
    return ((slices[:, first] - slices[:, second]).abs().amax((0, 2)) <= bound).cpu()


@lru_cache(maxsize=256)
def _direction(length: int) -> torch.Tensor:
    return torch.randn(
        length, generator=torch.Generator().manual_seed(length), dtype=torch.float32, device="cpu"
    )
