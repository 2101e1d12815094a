"""Whether values were drawn from a uniform, normal or truncated normal distribution, and at what scale.

Exact zeros are left out first: padding rows and pruned entries were not drawn. All tests are two-sided at
`MISFIT`: range and moments over all values, shape over the sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from initlint.theory.sampling import (
    NORMAL,
    kurtosis_error,
    largest,
    mean_error,
    smallest_maximum,
    std_interval,
    truncated_moments,
)

if TYPE_CHECKING:
    from initlint.evidence import Statistics

MISFIT = 1e-5
"""Chance that one test rejects the distribution that the values were drawn from."""

FEWEST = 8  # values below which nothing can be told about a distribution
BULK_MISFIT = 1e-2  # likewise where only a sample is left to tell a draw from heavy tails
MOMENT_SLACK = 1.15  # sample skewness and kurtosis have longer tails than the normal they tend to
MOMENTS_FROM = 256  # values above which sample skewness and kurtosis are near enough to normal
GENERATOR_REACH = 5.5  # Box-Muller on 24-bit uniforms, as in torch, cannot leave ±√(-2 ln 2⁻²⁴) = ±5.77


# ---------------------------------------------------------------- what was drawn


@dataclass(frozen=True, slots=True)
class Draw:
    """Figures of the values to be explained."""

    n: int
    mean: float
    std: float
    skewness: float
    kurtosis: float
    low: float
    high: float
    sample: tuple[float, ...]
    resolution: float  # relative rounding error of the stored values
    centre: float  # zero unless the mean is significantly off
    misfit: float = MISFIT  # chance that a test of its shape rejects the right family

    @property
    def reach(self) -> float:
        """Largest distance from zero, or half the range of values around another centre."""
        return (self.high - self.low) / 2 if self.centre else max(self.high, -self.low)

    @property
    def slack(self) -> float:
        """Factor by which rounding, when stored and when summed, may shift a scale."""
        return 1 + self.resolution + 1e-5


def drawn(statistics: Statistics) -> Draw | None:
    """The values that are not exactly zero; None if they are too few, all the same, or whole numbers."""
    kept = statistics.count - statistics.zeros
    sample = tuple(x for x in statistics.sample if x != 0) if statistics.zeros else statistics.sample
    if kept < FEWEST or len(sample) < FEWEST or _are_whole(sample):
        return None
    mean, std = statistics.mean, statistics.std
    moments = mean, std, statistics.skewness, statistics.kurtosis
    if statistics.zeros:
        third, fourth = moments[2] * std**3, moments[3] * std**4
        share = statistics.count / kept
        moments = _central(
            mean * share,
            (std**2 + mean**2) * share,
            (third + 3 * mean * std**2 + mean**3) * share,
            (fourth + 4 * mean * third + 6 * mean**2 * std**2 + mean**4) * share,
        )
    low = statistics.minimum if statistics.minimum else sample[0]
    high = statistics.maximum if statistics.maximum else sample[-1]
    return _draw(kept, moments, low, high, sample)


def bulk(draw: Draw) -> Draw | None:
    """The sample without values that stand out (beyond 4.4 σ of a normal); None if these are many.

    What is left is tested at `BULK_MISFIT`, since a sample is weak evidence.
    """
    distances = sorted(abs(x - draw.centre) for x in draw.sample)
    limit = 6.5 * distances[len(distances) // 2]
    kept = tuple(x for x in draw.sample if abs(x - draw.centre) <= limit)
    if len(kept) < max(64, min(0.99 * len(draw.sample), len(draw.sample) - 3)):
        return None
    moments = _central(*(math.fsum(x**k for x in kept) / len(kept) for k in (1, 2, 3, 4)))
    rest = _draw(len(kept), moments, kept[0], kept[-1], kept)
    return rest and replace(rest, misfit=BULK_MISFIT)


def _are_whole(sample: tuple[float, ...]) -> bool:
    """They are positions, indices, counts: whole numbers, and not merely because floats of that size are."""
    return max(sample[-1], -sample[0]) < 1e6 and all(x.is_integer() for x in sample)


def _draw(
    n: int, moments: tuple[float, float, float, float], low: float, high: float, sample: tuple[float, ...]
) -> Draw | None:
    mean, std, skewness, kurtosis = moments
    if not std > 0:
        return None
    centre = 0.0 if abs(mean) <= mean_error(std, n, MISFIT) else mean
    return Draw(n, mean, std, skewness, kurtosis, low, high, sample, _resolution(sample), centre)


def _central(m1: float, m2: float, m3: float, m4: float) -> tuple[float, float, float, float]:
    """Mean, std, skewness and kurtosis from raw moments."""
    variance = m2 - m1 * m1
    if variance <= 0:
        return m1, 0.0, 0.0, 0.0
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return m1, math.sqrt(variance), third / variance**1.5, fourth / variance**2


def _resolution(sample: tuple[float, ...]) -> float:
    """Relative rounding error of the type the values were stored in, told by their significant bits."""
    mantissas = [math.frexp(x)[0] for x in sample[:64]]
    for bits in (4, 8, 11):  # float8, bfloat16, half
        if all((mantissa * 2**bits).is_integer() for mantissa in mantissas):
            return float(2.0**-bits)
    return float(2.0**-23)


# ---------------------------------------------------------------- families


@dataclass(frozen=True, slots=True)
class Family:
    """A symmetric distribution in units of its own std."""

    distribution: Literal["uniform", "normal", "truncated"]
    peak: float  # largest magnitude
    moments: tuple[float, float, float]  # fourth, sixth, eighth
    parent: float = 1.0  # std of the normal that was cut, for truncated ones
    cost: float = 0.0  # of supposing it, in nats: how much rarer it is in use than the plain ones

    @property
    def cut(self) -> float:
        """Where the parent normal was cut, in its own std."""
        return self.peak / self.parent

    @property
    def inside(self) -> float:
        """Share of the parent normal between the cuts."""
        return 1.0 if math.isinf(self.peak) else 1 - 2 * NORMAL.cdf(-self.cut)

    def heights(self, values: list[float]) -> list[float]:
        """Distribution function at each value, continued beyond the ends."""
        if self.distribution == "uniform":
            return [0.5 + z / (2 * self.peak) for z in values]
        scale, share = 1 / (self.parent * math.sqrt(2)), 2 * self.inside
        return [0.5 + math.erf(z * scale) / share for z in values]

    def smallest_reach(self, n: int) -> float:
        """Magnitude below which all of n values stay with chance `MISFIT`."""
        if self.distribution == "normal":
            return min(smallest_maximum(n, MISFIT), GENERATOR_REACH)
        inner = math.exp(math.log(MISFIT) / n)
        if self.distribution == "uniform":
            return self.peak * inner
        return self.parent * NORMAL.inv_cdf((1 + inner * self.inside) / 2)

    def largest_reach(self, n: int) -> float:
        """Magnitude that one of n values exceeds with chance `MISFIT`."""
        return min(self.peak, largest(n, MISFIT) * self.parent)


def _cut_normal(cut: float, cost: float) -> Family:
    second, fourth, sixth, eighth = truncated_moments(cut)
    parent = 1 / math.sqrt(second)
    moments = fourth / second**2, sixth / second**3, eighth / second**4
    return Family("truncated", cut * parent, moments, parent, cost)


UNIFORM = Family("uniform", math.sqrt(3), (9 / 5, 27 / 7, 9.0))
GAUSSIAN = Family("normal", math.inf, (3.0, 15.0, 105.0))
CUT_2, CUT_3 = _cut_normal(2.0, cost=2.0), _cut_normal(3.0, cost=6.0)
FAMILIES = (UNIFORM, GAUSSIAN, CUT_2, CUT_3)


def belongs(draw: Draw, family: Family) -> bool:
    """Whether range, moments and sample agree with the family at some scale."""
    low, high = std_interval(draw.n, family.moments[0], MISFIT)
    reach = draw.reach / draw.std
    if reach * low > family.largest_reach(draw.n) * draw.slack:
        return False
    if reach * high * draw.slack < family.smallest_reach(draw.n):
        return False
    return _moments_agree(draw, family) and _shape_agrees(draw, family)


def _moments_agree(draw: Draw, family: Family) -> bool:
    """Skewness zero and the family's kurtosis, to within their sampling errors."""
    if draw.n < MOMENTS_FROM:
        return True
    fourth, sixth, eighth = family.moments
    skewness_error = math.sqrt((sixth - 6 * fourth + 9) / draw.n)
    error = kurtosis_error(fourth, sixth, eighth, draw.n)
    rounding = 1e-4 + draw.resolution
    sigmas = -NORMAL.inv_cdf(draw.misfit / 2) * MOMENT_SLACK
    return (
        abs(draw.skewness) <= sigmas * skewness_error + rounding
        and abs(draw.kurtosis - fourth) <= sigmas * error + 3 / draw.n + rounding
    )


def _shape_agrees(draw: Draw, family: Family) -> bool:
    """Kolmogorov-Smirnov test of the sample, scale from all values (finite sizes as in Stephens 1970)."""
    m = len(draw.sample)
    heights = family.heights([(x - draw.centre) / draw.std for x in draw.sample])
    above = [height - i / m for i, height in enumerate(heights)]
    distance = max(max(above), 1 / m - min(above))
    quantile = math.sqrt(-math.log(draw.misfit / 2) / 2)  # of √n·D, asymptotically
    return (distance - draw.resolution) * (math.sqrt(m) + 0.12 + 0.11 / math.sqrt(m)) <= quantile


def agrees(draw: Draw, std: float, family: Family) -> bool:
    """Whether the family's scale can be `std`, centred on the draw's centre."""
    if not std > 0:
        return False
    if family.distribution == "uniform":
        ratio = draw.reach / (family.peak * std)
        return math.exp(math.log(MISFIT) / draw.n) / draw.slack <= ratio <= draw.slack
    low, high = std_interval(draw.n, family.moments[0], MISFIT)
    if not low <= draw.std / std * draw.slack or not draw.std / std <= high * draw.slack:
        return False
    return draw.reach <= family.largest_reach(draw.n) * std * draw.slack


def log_likelihood(draw: Draw, std: float, family: Family) -> float:
    """Of the draw under the family at this scale, in nats; bounds closer than rounding are all alike."""
    if family.distribution == "uniform":
        return -draw.n * math.log(2 * max(family.peak * std, draw.reach * draw.slack))
    parent = std * family.parent
    square = draw.std**2 + (draw.mean - draw.centre) ** 2
    return -draw.n * (math.log(parent * family.inside * math.sqrt(2 * math.pi)) + square / (2 * parent**2))
