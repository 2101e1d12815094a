"""How far a statistic of a healthy draw may stray from its expectation by chance.

A healthy draw is to be called unhealthy less than once in 10⁶ tensors, so every bound below is a
quantile of its sampling distribution at `FALSE_ALARM`, exact where tensors are small.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

FALSE_ALARM = 1e-6
"""Chance that one comparison calls a healthy draw unhealthy."""
NORMAL = NormalDist()


# ---------------------------------------------------------------- quantiles; scipy is imported for the first
@lru_cache(maxsize=4096)
def chi_square_quantile(alpha: float, freedom: float, *, upper: bool = False) -> float:
    """Where the lower (or upper) tail of χ² holds `alpha`; Wilson & Hilferty (1931) above 1000 degrees.

    There SciPy's quantile of the lower tail is off by up to 10⁻⁵, more than a tenth of the interval.
    """
    if freedom > 1000:
        z = NORMAL.inv_cdf(alpha) * (-1 if upper else 1)
        return freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3
    from scipy.special import gammainccinv, gammaincinv

    return 2 * float((gammainccinv if upper else gammaincinv)(freedom / 2, alpha))


@lru_cache(maxsize=4096)
def student_quantile(alpha: float, freedom: float) -> float:
    """t beyond which lie `alpha` of both tails of Student's distribution together."""
    from scipy.special import stdtrit

    return -float(stdtrit(freedom, alpha / 2))


# ---------------------------------------------------------------- sampling errors
@lru_cache(maxsize=4096)
def std_interval(n: int, kurtosis: float = 3.0, alpha: float = FALSE_ALARM) -> tuple[float, float]:
    """Range of (sample std)/σ that n independent values leave at either end with chance `alpha`.

    n·s²/σ² of a normal is χ² with n-1 degrees of freedom. For another kurtosis the degrees become
    2(n-1)/(κ-1), which gives s² its right variance (Box 1953). The squares of light-tailed values are
    less skewed than χ² has it, so their lower end is that of a normal s², which is not skewed at all.
    """
    if n < 2:
        return 0.0, math.inf
    low, high = _chi_square_interval(n, max(kurtosis, 3.0), alpha)
    if kurtosis < 3:
        high = _chi_square_interval(n, max(kurtosis, 1.8), alpha)[1]
        variance = 1 + NORMAL.inv_cdf(alpha) * math.sqrt((max(kurtosis, 1.8) - 1) / (n - 1))
        low = max(low, math.sqrt(max(variance, 0.0)))
    return low, high


def _chi_square_interval(n: int, kurtosis: float, alpha: float) -> tuple[float, float]:
    freedom = 2 * (n - 1) / (kurtosis - 1)
    share = (n - 1) / n / freedom  # the std of Statistics divides by n
    low = chi_square_quantile(alpha, freedom) * share
    return math.sqrt(low), math.sqrt(chi_square_quantile(alpha, freedom, upper=True) * share)


def departs(measured: float, expected: float, n: int, *, kurtosis: float = 3.0, ratio: float = 1.0) -> bool:
    """Whether a std differs from the expected one by more than sampling error and more than `ratio`.

    `kurtosis` is that of the expected distribution (3 is safe for uniform, truncated and normal draws).
    """
    return exceeds(measured, expected, n, kurtosis=kurtosis, ratio=ratio) or falls_short(
        measured, expected, n, kurtosis=kurtosis, ratio=ratio
    )


def exceeds(measured: float, expected: float, n: int, *, kurtosis: float = 3.0, ratio: float = 1.0) -> bool:
    """Whether a std is above the expected one by more than sampling error and more than `ratio`."""
    return measured > expected * max(std_interval(n, kurtosis)[1], ratio)


def falls_short(
    measured: float, expected: float, n: int, *, kurtosis: float = 3.0, ratio: float = 1.0
) -> bool:
    """Whether a std is below the expected one by more than sampling error and more than `ratio`."""
    return measured < expected * min(std_interval(n, kurtosis)[0], 1 / ratio)


def mean_error(std: float, n: int, alpha: float = FALSE_ALARM) -> float:
    """Largest |mean| that n values around zero have by chance, from their measured std (divisor n).

    Student's t, whose tails are too thin for small uniform samples (17 times at 16 values and 10⁻⁶, by
    simulation, and more at other levels): below 256 values it is taken at a thousandth of `alpha`.
    """
    if n < 2:
        return math.inf
    return student_quantile(alpha if n >= 256 else alpha / 1000, n - 1) * std / math.sqrt(n - 1)


def biased(mean: float, std: float, n: int, *, ratio: float = 0.0) -> bool:
    """Whether a mean is off zero by more than sampling error and more than `ratio` standard deviations."""
    return abs(mean) > max(mean_error(std, n), ratio * std)


def largest(n: int, alpha: float = FALSE_ALARM) -> float:
    """Magnitude, in σ, that n normal values together exceed with chance `alpha` (Bonferroni).

    It bounds uniform (√3), truncated and orthogonal draws too, whose tails are lighter.
    """
    return -NORMAL.inv_cdf(alpha / (2 * max(n, 1)))


def smallest_maximum(n: int, alpha: float = FALSE_ALARM) -> float:
    """Magnitude, in σ, below which all of n normal values stay with chance `alpha`."""
    return -NORMAL.inv_cdf(-math.expm1(math.log(alpha) / max(n, 1)) / 2)


def fraction_bound(expected: float, n: int, alpha: float = FALSE_ALARM) -> float:
    """Fraction that n independent events of chance `expected` exceed with chance below `alpha`.

    Chernoff's bound: P(fraction ≥ f) ≤ exp(-n·KL(f‖p)) for f > p (Hoeffding 1963, theorem 1).
    """
    if not 0 < expected < 1 or n < 1:
        return 1.0 if expected >= 1 or n < 1 else 0.0
    limit = -math.log(alpha) / n
    if -math.log(expected) <= limit:
        return 1.0
    low, high = expected, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        rest = (1 - middle) * math.log((1 - middle) / (1 - expected)) if middle < 1 else 0.0
        low, high = (middle, high) if middle * math.log(middle / expected) + rest < limit else (low, middle)
    return high


def never_positive(shared: float, varying: float, inputs: float) -> float:
    """Chance that a unit of a healthy layer is negative for every one of `inputs` independent inputs.

    Its pre-activation is m + s·z: m ~ N(0, shared²) is what all inputs have in common, z ~ N(0, 1) is drawn
    anew for each, s = varying. The chance is E[Φ(-m/s)ⁿ]: 2⁻ⁿ if nothing is shared, 1/2 if nothing varies.
    """
    if varying <= 0 or inputs < 1:
        return 0.5
    step = 1 / 16
    points = (k * step for k in range(-8 * 16, 8 * 16 + 1))
    return math.fsum(NORMAL.pdf(z) * NORMAL.cdf(-z * shared / varying) ** inputs * step for z in points)


# ---------------------------------------------------------------- shapes of distributions
@lru_cache(maxsize=64)
def truncated_moments(cut: float) -> tuple[float, float, float, float]:
    """Second, fourth, sixth and eighth moment of a standard normal cut at ±`cut` (by parts, recursively)."""
    inside = 2 * NORMAL.cdf(cut) - 1
    edge = 2 * NORMAL.pdf(cut) / inside
    moments = [1.0]
    for order in (2, 4, 6, 8):
        moments.append((order - 1) * moments[-1] - cut ** (order - 1) * edge)
    return moments[1], moments[2], moments[3], moments[4]


def kurtosis_error(fourth: float, sixth: float, eighth: float, n: int) -> float:
    """Standard error of the sample kurtosis of a symmetric distribution with these standardised moments.

    Delta method on m₄/m₂²: μ₈ - 4μ₄μ₆ + 4μ₄³ - μ₄² over n (24/n for a normal, 1.32/n for a uniform).
    """
    return math.sqrt((eighth - 4 * fourth * sixth + 4 * fourth**3 - fourth**2) / n)
