"""Figures of tensors that flow through a model: a handful of reductions each, on any device.

Extremes, non-finite values and dead units are exact. Moments and counts are read from at most `SAMPLE`
values: tensors above that are read at every k-th index of their longest axes, batch and units kept whole
as long as others are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, isfinite, prod, sqrt

import torch

from initlint.evidence import Scale

SAMPLE = 1 << 16  # moments of this many values are within 0.5 %
_NATIVE = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


@dataclass(frozen=True, slots=True)
class Figures:
    """An output's scale and what its units do. `observations` are the values seen per unit."""

    scale: Scale
    units: int = 0
    dead_units: int = 0
    observations: int = 0
    across_inputs: float | None = None


def readable(tensor: torch.Tensor) -> bool:
    """A dense floating or complex tensor with values."""
    return (
        (tensor.is_floating_point() or tensor.is_complex())
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and not tensor.is_meta
        and tensor.numel() > 0
    )


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The same values, real (complex as a trailing axis of two) and of a type that reductions take."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor if tensor.dtype in _NATIVE else tensor.float()


def sample(tensor: torch.Tensor, keep: tuple[int, ...] = ()) -> torch.Tensor:
    """At most `SAMPLE` values in float32 (float64 as it is), sparing the axes `keep`, last one first to go."""
    order = sorted((d for d in range(tensor.dim()) if d not in keep), key=lambda d: -tensor.shape[d])
    for axis in (*order, *reversed(keep)):
        if tensor.numel() <= SAMPLE:
            break
        step = min(ceil(tensor.numel() / SAMPLE), tensor.shape[axis])
        tensor = tensor[(slice(None),) * axis + (slice(None, None, step),)]
    return tensor if tensor.dtype is torch.float64 else tensor.float()


def scale(tensor: torch.Tensor, *, masks: bool = False) -> Scale:
    """Scale of all values; with `masks`, -inf is taken for an attention mask and not counted."""
    return figures(tensor, None, None, masks=masks).scale


def figures(
    tensor: torch.Tensor,
    units: int | None,
    batch: int | None,
    *,
    masks: bool = False,
    rectified: bool = False,
) -> Figures:
    """Figures of an output; `units` is the axis of its units, `batch` the number of inputs it was made from.

    With `rectified`, units that are zero for every observation are counted.
    """
    tensor = plain(tensor.detach())
    low, high, dead = _extremes(tensor, units if rectified else None)
    axis = _batch_axis(tuple(tensor.shape), batch)
    values = sample(tensor, tuple(d for d in (axis, units) if d is not None))
    across = None
    if isfinite(low) and isfinite(high):
        absmax = max(abs(low), abs(high))
        # Squares beyond 1e38 overflow float32, those below 1e-38 vanish.
        unit = 1.0 if absmax == 0 or 1e-15 < absmax < 1e15 else absmax
        values = values if unit == 1.0 else values / unit
        measured = _moments(values, absmax, unit)
        if axis is not None and batch is not None and batch > 1:
            across = _across(values, axis, batch)
    else:
        measured = _nonfinite(tensor, values, masks)
    count = tensor.shape[units] if units is not None else 0
    return Figures(measured, count, dead, tensor.numel() // count if count else 0, across)


def _extremes(tensor: torch.Tensor, units: int | None) -> tuple[float, float, int]:
    """Smallest and largest value (NaN if there is any), and units that hold only zeros."""
    if units is None or tensor.dim() < 2:
        low, high = torch.stack((tensor.amin(), tensor.amax())).tolist()
        return low, high, 0
    others = [d for d in range(tensor.dim()) if d != units]
    lows, highs = tensor.amin(others), tensor.amax(others)
    low, high = torch.stack((lows.amin(), highs.amax())).tolist()
    return low, high, int(((lows == 0) & (highs == 0)).sum()) if low <= 0 <= high else 0


def _moments(values: torch.Tensor, absmax: float, unit: float) -> Scale:
    """Figures of `values` times `unit`."""
    values = values.reshape(-1)
    center = values.mean()
    offset = values - center
    mean, square, nonzero = torch.stack(
        (center, torch.dot(offset, offset), torch.count_nonzero(values).to(values))
    ).tolist()
    variance = square / values.numel()
    return Scale(
        rms=sqrt(mean * mean + variance) * unit,
        mean=mean * unit,
        std=sqrt(variance) * unit,
        absmax=absmax,
        zeros=1 - nonzero / values.numel(),
    )


def _nonfinite(tensor: torch.Tensor, values: torch.Tensor, masks: bool) -> Scale:
    """Moments over the finite values, counts over all of them."""
    nans = int(tensor.isnan().sum())
    infs = int((tensor == inf).sum() if masks else tensor.isinf().sum())
    finite = values[values.isfinite()]
    if not finite.numel():
        return Scale(0.0, 0.0, 0.0, 0.0, 0.0, nans, infs)
    absmax = float(finite.abs().amax())
    found = _moments(finite / (absmax or 1.0), absmax, absmax or 1.0)
    return Scale(found.rms, found.mean, found.std, found.absmax, found.zeros, nans, infs)


def _batch_axis(shape: tuple[int, ...], batch: int | None) -> int | None:
    """The axis along which inputs are told apart: 0 (inputs may be flattened into it), else 1."""
    if batch is None or len(shape) < 2:
        return None
    if shape[0] % batch == 0:
        return 0
    return 1 if shape[1] == batch else None


def _across(values: torch.Tensor, axis: int, batch: int) -> float | None:
    """How much inputs matter: std over the inputs of one batch, relative to the rms."""
    if axis == 0:
        if values.shape[0] % batch:
            return None
        values = values.reshape(batch, -1)
    else:
        values = values.movedim(axis, 0).reshape(batch, -1)
    steps = (values[1:] - values[:-1]).reshape(-1)
    flat = values.reshape(-1)
    variance, square = torch.stack((torch.dot(steps, steps), torch.dot(flat, flat))).tolist()
    if square == 0:
        return None
    return sqrt(variance / (2 * steps.numel()) / (square / flat.numel()))


# ---------------------------------------------------------------- saturation

#: Distance from its ends at which a squashing function counts as flat: its slope is below 4 % of the largest.
FLAT = 0.01
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


def saturated(activation: str, output: torch.Tensor, operand: torch.Tensor | None) -> float:
    """Fraction on the flat part of an activation; for a softmax, fraction of rows with a value above 0.99.

    `operand` is what the activation was applied to, None when it was overwritten.
    """
    if activation in ENDS:
        low, high = ENDS[activation]
        values = sample(plain(output.detach()))
        return float(((values < low + FLAT) | (values > high - FLAT)).float().mean())
    if activation in FLAT_BELOW and operand is not None:
        return float((sample(plain(operand.detach())) < FLAT_BELOW[activation]).float().mean())
    return 0.0


def peaked_rows(output: torch.Tensor, axis: int, *, log: bool) -> float:
    """Fraction of the rows of a softmax along `axis` that are nearly one-hot, rows of one value left out."""
    if output.dim() == 0 or output.shape[axis] < 2:
        return 0.0
    values = sample(plain(output.detach()), (axis % output.dim(),))
    largest = values.amax(axis)
    return float((largest > (-0.01005 if log else 0.99)).float().mean())


# ---------------------------------------------------------------- gradients

TOLERANCE = 1e-5  # of a slice's largest value: sums taken in another order differ by less
SHORT = 8  # slices with fewer values come that close by chance


def duplicates(gradient: torch.Tensor) -> tuple[int, ...]:
    """Per axis: slices that equal an earlier slice, all-zero slices left out. Kernel axes are not compared."""
    gradient = plain(gradient.detach())
    if gradient.dim() < 2 or not gradient.numel():
        return (0,) * gradient.dim()
    gradient = gradient.float().contiguous()
    axes = 2 if gradient.dim() > 3 else gradient.dim()
    return tuple(_equal_slices(gradient, axis) if axis < axes else 0 for axis in range(gradient.dim()))


def _equal_slices(gradient: torch.Tensor, axis: int) -> int:
    """A random projection sorts equal slices side by side; only neighbours that agree in it are compared."""
    count = gradient.shape[axis]
    before, after = prod(gradient.shape[:axis]), prod(gradient.shape[axis + 1 :])
    if count < 2:
        return 0
    slices = gradient.reshape(before, count, after)
    sizes = torch.maximum(slices.amax((0, 2)), -slices.amin((0, 2)))
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, generator=generator).to(gradient.device) for n in (before, after))
    projected = torch.mv(torch.mv(slices.reshape(before, -1).t(), left).reshape(count, after), right)
    alive = (sizes > 0).nonzero().flatten()
    order = alive[projected[alive].argsort()]
    tolerance = (TOLERANCE if before * after >= SHORT else torch.finfo(torch.float32).eps) * sizes[order[1:]]
    close = projected[order].diff() <= 4 * tolerance * sqrt(before * after)
    first, second = order[:-1][close], order[1:][close]
    if not first.numel():
        return 0
    distance = (slices[:, first] - slices[:, second]).abs().amax((0, 2))
    return int((distance <= tolerance[close]).sum())
