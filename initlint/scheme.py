"""Which known initialisations a tensor's values can have been drawn from.

First the family (uniform, normal, truncated, orthogonal, …) by range, moments and a Kolmogorov-Smirnov
test; then, within it, every prescription whose scale agrees with the measured one to within its sampling
error. Several may fit: a square matrix has one fan, and small samples hold little information.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from initlint import theory
from initlint.evidence import Scheme, Shape, Statistics, Use
from initlint.theory import NORMAL

MISFIT = 1e-5
"""Chance that one test rejects the scheme that the values were drawn from."""

FEWEST = 8  # values below which nothing can be told about a distribution
KOLMOGOROV = math.sqrt(-math.log(MISFIT / 2) / 2)
MOMENT_SIGMAS = 5.0
STRUCTURED_ZEROS = 0.01  # fraction of exact zeros above which they are no accident of rounding

GAINS: tuple[tuple[str, float, str], ...] = (
    ("", math.sqrt(2), "√2"),
    ("nonlinearity='linear'", 1.0, "1"),
    ("nonlinearity='tanh'", 5 / 3, "5/3"),
    ("a=0.2", math.sqrt(2 / 1.04), "√(2/1.04)"),
    ("nonlinearity='selu'", 3 / 4, "3/4"),
)
"""Arguments of nn.init.kaiming_*_, the gain they give, and how to write it."""

XAVIER_GAINS: tuple[tuple[float, str], ...] = (
    (1.0, "1"),
    (math.sqrt(2), "√2"),
    (math.sqrt(0.5), "1/√2"),
    (5 / 3, "5/3"),
    (0.1, "0.1"),
    (0.01, "0.01"),
)


def schemes(statistics: Statistics, shape: Shape, use: Use | None) -> tuple[Scheme, ...]:
    """Known schemes that fit, best first: the traced use's fans before the stored shape's, simple before odd.

    Empty when no known scheme fits. If single values stand out from a draw that is otherwise recognised,
    the schemes of the bulk are returned with `fit="bulk"`.
    """
    if statistics.count == 0 or statistics.nans or statistics.infs:
        return ()
    if statistics.constant:
        return (_constant(statistics.minimum),)
    structured = _identity(statistics, shape) or _orthogonal(statistics, shape)
    if structured is not None:
        return (structured,)
    draw = _drawn(statistics)
    if draw is None:
        return ()
    found = tuple(_fitting(draw, shape, use))
    if not found:
        bulk = _bulk(draw)
        if bulk is not None:
            found = tuple(replace(scheme, fit="bulk") for scheme in _fitting(bulk, shape, use))
    if _sparse(statistics, shape):
        return tuple(_thinned(scheme, statistics) for scheme in found)[:1]
    return found


def expected(use: Use | None, recognised: tuple[Scheme, ...] = ()) -> Scheme | None:
    """What the weight should look like: the recognised scheme if it suits the true fans, else theory's.

    Theory's is a normal draw of std gain/√fan_in (He et al. 2015, eq. 10 and 15); None without a fan-in.
    """
    for scheme in recognised:
        if scheme.reading == "true":
            return scheme
    if use is None or use.fan_in is None or use.role not in ("matrix", "kernel", "recurrent"):
        return None
    activation = use.activation if use.activation and theory.gain(use.activation) else "linear"
    gain = theory.gain(activation) or 1.0
    std = gain / math.sqrt(use.fan_in)
    known = [text for _, value, text in GAINS if math.isclose(value, gain)]
    return Scheme(
        name="kaiming_normal_",
        distribution="normal",
        std=std,
        gain=gain,
        fan=use.fan_in,
        fan_mode="fan_in",
        text=f"std {gain:.3g}/√{use.fan_in} for {activation}",
        formula=_formula(gain, next(iter(known), f"{gain:.3g}"), "fan_in", uniform=False),
        reading="true",
    )


# ---------------------------------------------------------------- what was drawn


@dataclass(frozen=True, slots=True)
class _Draw:
    """The values to be explained, exact zeros left out."""

    n: int
    mean: float
    std: float
    skewness: float
    kurtosis: float
    low: float
    high: float
    sample: tuple[float, ...]
    resolution: float  # relative rounding error of the stored values

    @property
    def centre(self) -> float:
        """Zero unless the mean is significantly off."""
        return 0.0 if abs(self.mean) <= theory.mean_error(self.std, self.n, MISFIT) else self.mean

    @property
    def reach(self) -> float:
        """Largest distance from the centre."""
        return max(self.high - self.centre, self.centre - self.low)


def _drawn(statistics: Statistics) -> _Draw | None:
    """The draw without its exact zeros: padding rows and pruned entries were not drawn."""
    kept = statistics.count - statistics.zeros
    sample = tuple(x for x in statistics.sample if x != 0)
    if kept < FEWEST or len(sample) < FEWEST:
        return None
    share = statistics.count / kept
    mean, std = statistics.mean, statistics.std
    third, fourth = statistics.skewness * std**3, statistics.kurtosis * std**4
    raw = (
        mean * share,
        (std**2 + mean**2) * share,
        (third + 3 * mean * std**2 + mean**3) * share,
        (fourth + 4 * mean * third + 6 * mean**2 * std**2 + mean**4) * share,
    )
    if share == 1:
        skewness, kurtosis = statistics.skewness, statistics.kurtosis
    else:
        mean, std, skewness, kurtosis = _central(*raw)
    if not std > 0:
        return None
    return _Draw(
        n=kept,
        mean=mean,
        std=std,
        skewness=skewness,
        kurtosis=kurtosis,
        low=statistics.minimum if statistics.minimum else sample[0],
        high=statistics.maximum if statistics.maximum else sample[-1],
        sample=sample,
        resolution=_resolution(sample),
    )


def _central(m1: float, m2: float, m3: float, m4: float) -> tuple[float, float, float, float]:
    """Mean, std, skewness and kurtosis from raw moments."""
    variance = max(m2 - m1 * m1, 0.0)
    if variance == 0:
        return m1, 0.0, 0.0, 0.0
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return m1, math.sqrt(variance), third / variance**1.5, fourth / variance**2


def _of_sample(sample: tuple[float, ...]) -> _Draw:
    n = len(sample)
    powers = (math.fsum(x**k for x in sample) / n for k in (1, 2, 3, 4))
    mean, std, skewness, kurtosis = _central(*powers)
    return _Draw(n, mean, std, skewness, kurtosis, sample[0], sample[-1], sample, _resolution(sample))


def _bulk(draw: _Draw) -> _Draw | None:
    """The sample without values that stand out by far, which a normal draw hardly has (4.4 σ)."""
    middle = sorted(abs(x - draw.centre) for x in draw.sample)[len(draw.sample) // 2]
    kept = tuple(x for x in draw.sample if abs(x - draw.centre) <= 6.5 * middle)
    if len(kept) < max(FEWEST, 0.95 * len(draw.sample)):
        return None
    bulk = _of_sample(kept)
    return bulk if bulk.std > 0 and bulk.n >= 64 else None


def _resolution(sample: tuple[float, ...]) -> float:
    """Relative rounding error of the type the values were stored in, told by their significant bits."""
    mantissas = [math.frexp(x)[0] for x in sample]
    for bits in (4, 8, 11):
        if all((mantissa * 2**bits).is_integer() for mantissa in mantissas):
            return 2.0**-bits
    return 2.0**-22


# ---------------------------------------------------------------- families


@dataclass(frozen=True, slots=True)
class _Family:
    """A symmetric distribution in units of its own std."""

    distribution: Literal["uniform", "normal", "truncated"]
    peak: float  # largest magnitude
    moments: tuple[float, float, float]  # fourth, sixth, eighth
    parent: float = 1.0  # std of the normal that was cut, for truncated ones

    def cdf(self, z: float) -> float:
        """Distribution function."""
        z = max(-self.peak, min(self.peak, z))
        if self.distribution == "uniform":
            return 0.5 + z / (2 * self.peak)
        if self.distribution == "normal":
            return NORMAL.cdf(z)
        outside = NORMAL.cdf(-self.peak / self.parent)
        return (NORMAL.cdf(z / self.parent) - outside) / (1 - 2 * outside)

    def smallest_peak(self, n: int) -> float:
        """Magnitude below which all of n values stay with chance `MISFIT`."""
        if self.distribution == "normal":
            return theory.smallest_maximum(n, MISFIT)
        inner = MISFIT ** (1 / n)
        if self.distribution == "uniform":
            return self.peak * inner
        inside = 1 - 2 * NORMAL.cdf(-self.peak / self.parent)
        return self.parent * NORMAL.inv_cdf((1 + inner * inside) / 2)

    def largest_peak(self, n: int) -> float:
        """Magnitude that n values exceed with chance `MISFIT`."""
        return min(self.peak, theory.largest(n, MISFIT))


def _truncated(cut: float) -> _Family:
    second, fourth, sixth, eighth = theory.truncated_moments(cut)
    std = math.sqrt(second)
    return _Family(
        "truncated", cut / std, (fourth / second**2, sixth / second**3, eighth / second**4), 1 / std
    )


UNIFORM = _Family("uniform", math.sqrt(3), (9 / 5, 27 / 7, 9.0))
GAUSSIAN = _Family("normal", math.inf, (3.0, 15.0, 105.0))
CUT_2, CUT_3 = _truncated(2.0), _truncated(3.0)
FAMILIES = (UNIFORM, GAUSSIAN, CUT_2, CUT_3)


def _belongs(draw: _Draw, family: _Family) -> bool:
    """Whether range, moments and sample agree with the family at some scale."""
    low, high = theory.std_interval(draw.n, family.moments[0], MISFIT)
    reach, slack = draw.reach / draw.std, 1 + draw.resolution
    if low > 0 and reach > family.largest_peak(draw.n) / low * slack:
        return False
    if reach < family.smallest_peak(draw.n) / high / slack:
        return False
    return _moments_agree(draw, family) and _kolmogorov(draw, family)


def _moments_agree(draw: _Draw, family: _Family) -> bool:
    """Skewness 0 and the family's kurtosis to within their errors; their laws need some hundred values."""
    if draw.n < 256:
        return True
    fourth, sixth, eighth = family.moments
    skewness_error = math.sqrt((sixth - 6 * fourth + 9) / draw.n)
    error = theory.kurtosis_error(fourth, sixth, eighth, draw.n) + 3 / draw.n
    return abs(draw.skewness) <= MOMENT_SIGMAS * skewness_error + 1e-4 and (
        abs(draw.kurtosis - fourth) <= MOMENT_SIGMAS * error + 1e-4
    )


def _kolmogorov(draw: _Draw, family: _Family) -> bool:
    """Kolmogorov-Smirnov on the sample, scale taken from all values (Stephens 1970 for finite n)."""
    m = len(draw.sample)
    heights = [family.cdf((x - draw.centre) / draw.std) for x in draw.sample]
    distance = max(max((i + 1) / m - u, u - i / m) for i, u in enumerate(heights))
    return distance * (math.sqrt(m) + 0.12 + 0.11 / math.sqrt(m)) <= KOLMOGOROV + draw.resolution * math.sqrt(
        m
    )


def _agrees(draw: _Draw, scheme: Scheme, family: _Family) -> bool:
    """Whether the scale is the prescribed one to within sampling error."""
    slack = 1 + draw.resolution + 1e-5
    if family is UNIFORM:
        bound = family.peak * scheme.std
        return bound * MISFIT ** (1 / draw.n) / slack <= draw.reach <= bound * slack
    low, high = theory.std_interval(draw.n, family.moments[0], MISFIT)
    if not low / slack <= draw.std / scheme.std <= high * slack:
        return False
    return draw.reach <= family.largest_peak(draw.n) * scheme.std * slack


# ---------------------------------------------------------------- prescriptions


def _fitting(draw: _Draw, shape: Shape, use: Use | None) -> Iterator[Scheme]:
    fans = tuple(_fans(shape, use))
    lookup = use is not None and use.role in ("lookup", "table", "state")
    for family in FAMILIES:
        if not _belongs(draw, family):
            continue
        known: Iterator[Scheme] = iter(())
        if draw.centre == 0:
            by_fan, by_size = _by_fan(family, fans), _by_size(family, shape, use)
            known = chain(by_size, by_fan) if lookup else chain(by_fan, by_size)
        taken: set[float] = set()
        for scheme in known:
            if scheme.std not in taken and _agrees(draw, scheme, family):
                taken.add(scheme.std)
                yield scheme
        if family is not CUT_3 or not taken:
            yield _free(draw, family)


@dataclass(frozen=True, slots=True)
class _Fans:
    fan_in: int | None
    fan_out: int | None
    reading: Literal["true", "nn.init"]


def _fans(shape: Shape, use: Use | None) -> Iterator[_Fans]:
    if use is not None and (use.fan_in or use.fan_out):
        yield _Fans(use.fan_in, use.fan_out, "true")
    stored = theory.fans(shape)
    if stored is not None and min(stored) > 0:
        yield _Fans(*stored, "nn.init")


def _by_fan(family: _Family, fans: tuple[_Fans, ...]) -> Iterator[Scheme]:
    """Scalings by a fan: PyTorch's default, Kaiming, Xavier, LeCun, and their truncated forms."""
    for fan in fans:
        for mode, size in (("fan_in", fan.fan_in), ("fan_out", fan.fan_out)):
            if size and family is UNIFORM:
                yield _scaled(family, math.sqrt(1 / 3), "√(1/3)", size, mode, fan.reading)
        for mode, size in (("fan_in", fan.fan_in), ("fan_out", fan.fan_out)):
            if size:
                yield _scaled(family, GAINS[0][1], GAINS[0][2], size, mode, fan.reading, GAINS[0][0])
        if fan.fan_in and fan.fan_out:
            mean = (fan.fan_in + fan.fan_out) / 2
            for gain, text in XAVIER_GAINS:
                yield _scaled(family, gain, text, mean, "fan_avg", fan.reading)
        for arguments, gain, text in GAINS[1:]:
            for mode, size in (("fan_in", fan.fan_in), ("fan_out", fan.fan_out)):
                if size:
                    yield _scaled(family, gain, text, size, mode, fan.reading, arguments)
        if family is CUT_2:
            for numerator, text in ((1.0, "1"), (math.sqrt(2), "√2")):
                if fan.fan_in:
                    yield _cut_after(family, numerator, text, fan.fan_in, fan.reading)


def _scaled(
    family: _Family,
    gain: float,
    gain_text: str,
    size: float,
    mode: str,
    reading: Literal["true", "nn.init"],
    arguments: str = "",
) -> Scheme:
    """The scheme of std gain/√size in one family."""
    std = gain / math.sqrt(size)
    uniform = family is UNIFORM
    formula = _formula(gain, gain_text, mode, uniform=uniform)
    method = "xavier" if mode == "fan_avg" else "kaiming"
    name = f"{method}_{'uniform' if uniform else 'normal'}_"
    if family.distribution == "truncated":
        name = "variance_scaling"
        text = (
            f"variance_scaling({gain_text}², {mode}, truncated_normal)"
            if gain != 1
            else (f"variance_scaling({mode}, truncated_normal)")
        )
    elif gain_text == "√(1/3)":
        name = "default" if mode == "fan_in" else "uniform_"
        text = "kaiming_uniform_(a=√5)" if mode == "fan_in" else "uniform_(±1/√fan_out)"
    elif mode == "fan_avg":
        text = f"{name}({'' if gain == 1 else f'gain={gain_text}'})"
    else:
        text = f"{name}({', '.join(filter(None, (f'mode={mode!r}', arguments)))})"
    return Scheme(
        name=name,
        distribution=family.distribution,
        std=std,
        bound=None if math.isinf(family.peak) else family.peak * std,
        gain=gain,
        fan=round(size),
        fan_mode=mode,
        text=text,
        formula=formula,
        reading=reading,
    )


def _cut_after(
    family: _Family, gain: float, gain_text: str, size: int, reading: Literal["true", "nn.init"]
) -> Scheme:
    """trunc_normal_ whose std before cutting is gain/√fan_in."""
    formula = _formula(gain, gain_text, "fan_in", uniform=False)
    parent = gain / math.sqrt(size)
    return Scheme(
        name="trunc_normal_",
        distribution="truncated",
        std=parent / family.parent,
        bound=parent * family.peak / family.parent,
        gain=gain / family.parent,
        fan=size,
        fan_mode="fan_in",
        text=f"trunc_normal_(std={formula}, ±2 std)",
        formula=f"{1 / family.parent:.3f}·{formula}",
        reading=reading,
    )


def _formula(gain: float, gain_text: str, mode: str, *, uniform: bool) -> str:
    """The std as a formula, or the bound (√3 times that) of a uniform: "√(6/fan_in)"."""
    size = "(fan_in+fan_out)" if mode == "fan_avg" else mode
    factor = (3 if uniform else 1) * (2 if mode == "fan_avg" else 1)
    numerator = gain * gain * factor
    if math.isclose(numerator, round(numerator)):
        return f"1/√{size}" if round(numerator) == 1 else f"√({round(numerator)}/{size})"
    return f"{gain_text}/√{size}" if factor == 1 else f"{gain_text}·√({factor}/{size})"


def _by_size(family: _Family, shape: Shape, use: Use | None) -> Iterator[Scheme]:
    """Scalings by the stored size alone: recurrent layers' 1/√hidden, and 1/√d of an embedding."""
    if family is UNIFORM and shape and (len(shape) == 1 or (use is not None and use.role == "recurrent")):
        for gates in (4, 3, 1):
            if shape[0] % gates == 0:
                bound = 1 / math.sqrt(shape[0] // gates)
                yield Scheme(
                    "default",
                    "uniform",
                    bound / math.sqrt(3),
                    bound,
                    text=f"uniform_(±1/√{shape[0] // gates})",
                    formula="1/√hidden",
                )
    if family is GAUSSIAN and len(shape) > 1:
        std = 1 / math.sqrt(shape[-1])
        yield Scheme("normal_", "normal", std, text=f"normal_(std=1/√{shape[-1]})", formula="1/√d")


# ---------------------------------------------------------------- free parameters


def _free(draw: _Draw, family: _Family) -> Scheme:
    """The family with the plainest parameters that fit."""
    low, high = theory.std_interval(draw.n, family.moments[0], MISFIT)
    slack = 1 + draw.resolution + 1e-5
    if family is UNIFORM:
        return _free_uniform(draw, slack)
    mean = 0.0
    if draw.centre:
        error = theory.mean_error(draw.std, draw.n, MISFIT)
        mean = _plainest(draw.mean - error, draw.mean + error, draw.mean)
    least, most = draw.std / (high * slack), draw.std / low * slack if low > 0 else draw.std
    if family is GAUSSIAN:
        std = _plainest(least, most, draw.std)
        blocks = _depth_scaled(least, most)
        arguments = f"{f'mean={mean:.4g}, ' if mean else ''}std={std:.4g}"
        if blocks and f"{std:.2g}" != f"{std:.4g}":
            formula = f"0.02/√(2·{blocks})"
            std = 0.02 / math.sqrt(2 * blocks)
            return Scheme(
                "normal_", "normal", std, text=f"normal_(std={formula})", formula=formula, mean=mean
            )
        return Scheme("normal_", "normal", std, text=f"normal_({arguments})", formula=f"{std:.4g}", mean=mean)
    cut = family.peak / family.parent
    parent = _plainest(least * family.parent, most * family.parent, draw.std * family.parent)
    if draw.reach > cut * parent * slack:
        parent = draw.reach / cut
    return Scheme(
        "trunc_normal_",
        "truncated",
        parent / family.parent,
        cut * parent,
        text=f"trunc_normal_({f'mean={mean:.4g}, ' if mean else ''}std={parent:.4g}, ±{cut:g} std)",
        formula=f"{1 / family.parent:.3f}·{parent:.4g}",
        mean=mean,
    )


def _free_uniform(draw: _Draw, slack: float) -> Scheme:
    """U(-b, b), or U(a, b) where the mean is off zero."""
    stretch = MISFIT ** (-1 / draw.n) * slack
    if draw.centre == 0:
        bound = _plainest(draw.reach / slack, draw.reach * stretch, draw.reach)
        return Scheme(
            "uniform_",
            "uniform",
            bound / math.sqrt(3),
            bound,
            text=f"uniform_(±{bound:.4g})",
            formula=f"{bound:.4g}",
        )
    margin = (draw.high - draw.low) * (stretch - 1)
    low = _plainest(draw.low - margin, draw.low, draw.low)
    high = _plainest(draw.high, draw.high + margin, draw.high)
    return Scheme(
        "uniform_",
        "uniform",
        (high - low) / math.sqrt(12),
        max(abs(low), abs(high)),
        text=f"uniform_({low:.4g}, {high:.4g})",
        mean=(low + high) / 2,
    )


def _plainest(low: float, high: float, measured: float) -> float:
    """The number of fewest digits between `low` and `high`, nearest to the measured one."""
    if low <= 0 <= high:
        return 0.0
    for digits in range(3):
        value = float(f"{measured:.{digits}e}")
        if low <= value <= high:
            return value
    return measured


def _depth_scaled(low: float, high: float) -> int | None:
    """The number of blocks L for which 0.02/√(2L) lies in a range, if it is told apart from its neighbours.

    Radford et al., GPT-2 (2019), §2.3: residual projections scaled by 1/√N, N residual layers.
    """
    most, least = (0.02 / low) ** 2 / 2, (0.02 / high) ** 2 / 2
    blocks = round((most + least) / 2)
    return blocks if 2 <= blocks <= 256 and least <= blocks <= most and most - least < 0.2 else None


# ---------------------------------------------------------------- structured values


def _constant(value: float) -> Scheme:
    name = {0.0: "zeros_", 1.0: "ones_"}.get(value, "constant_")
    text = f"constant_({value:.4g})" if name == "constant_" else f"{name}()"
    return Scheme(name, "constant", 0.0, abs(value), text=text, formula=f"{value:.4g}", mean=value)


def _identity(statistics: Statistics, shape: Shape) -> Scheme | None:
    """eye_ and dirac_: one non-zero value in every row or column, all of them the same."""
    ones = statistics.count - statistics.zeros
    value = statistics.maximum if statistics.minimum == 0 else statistics.minimum
    if len(shape) < 2 or statistics.minimum * statistics.maximum or ones not in (shape[0], min(shape[:2])):
        return None
    mean, square = value * ones / statistics.count, value * value * ones / statistics.count
    if not math.isclose(statistics.mean, mean, rel_tol=1e-3):
        return None
    if not math.isclose(statistics.rms**2, square, rel_tol=1e-3):
        return None
    name = "eye_" if len(shape) == 2 else "dirac_"
    text = f"{name}()" if value == 1 else f"{value:.4g}·{name}()"
    return Scheme(
        name, "identity", math.sqrt(square - mean * mean), abs(value), gain=value, text=text, mean=mean
    )


def _orthogonal(statistics: Statistics, shape: Shape) -> Scheme | None:
    """Rows (or columns) orthogonal and of one length: an independent draw misses that by 1/√length."""
    if statistics.orthogonality is None or len(shape) < 2:
        return None
    columns = statistics.count // shape[0]
    short, long = sorted((shape[0], columns))
    if short < 3 or statistics.orthogonality > 0.1 / math.sqrt(long):
        return None
    gain = statistics.rms * math.sqrt(long)
    known = next(
        (text for value, text in XAVIER_GAINS if math.isclose(value, gain, rel_tol=2e-3)), f"{gain:.4g}"
    )
    text = "orthogonal_()" if known == "1" else f"orthogonal_(gain={known})"
    return Scheme(
        "orthogonal_",
        "orthogonal",
        gain / math.sqrt(long),
        gain,
        gain=gain,
        text=text,
        formula=f"{known}/√{long}",
    )


def _sparse(statistics: Statistics, shape: Shape) -> bool:
    """Zeros are strewn over the tensor, not gathered in whole slices (a padding row)."""
    whole = (
        count * statistics.count // size
        for count, size in zip(statistics.constant_slices, shape, strict=False)
    )
    return statistics.zeros > STRUCTURED_ZEROS * statistics.count and statistics.zeros not in whole


def _thinned(scheme: Scheme, statistics: Statistics) -> Scheme:
    """nn.init.sparse_: the same draw with a fraction of zeros."""
    fraction = statistics.zeros / statistics.count
    return replace(
        scheme,
        name="sparse_",
        distribution="sparse",
        std=scheme.std * math.sqrt(1 - fraction),
        text=f"sparse_(sparsity={fraction:.2g}, {scheme.text})",
    )
