"""Which known initialisations a tensor's values can have been drawn from.

First the family (`theory.distributions`), then within it every prescription whose scale agrees with the
measured one.
Several may fit: a square matrix has one fan, and small samples hold little information. They are ranked
by likelihood less the cost of the prescription: a rare gain needs more evidence than a common one
(minimum description length, Rissanen 1978; costs are in nats).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

from initlint import theory
from initlint.evidence import Scheme, Shape, Statistics, Use, Write
from initlint.theory import (
    CUT_2,
    FAMILIES,
    GAUSSIAN,
    MISFIT,
    UNIFORM,
    Draw,
    Family,
    agrees,
    belongs,
    bulk,
    drawn,
    log_likelihood,
)
from initlint.values.structured import STRUCTURED_ZEROS

Reading = Literal["true", "nn.init"]
STORED_FAN = 2.0  # cost of a fan that only the stored shape explains, not the traced use
FREE = 3.0  # cost of a parameter of one's own choice
DIGIT = math.log(10)
USUAL = (0.02, 0.01, 1.0, 0.1, 0.05, 0.001)  # parameters that are chosen without much thought


class Gain(NamedTuple):
    """A gain as nn.init knows it: arguments of kaiming_*_, value, notation, cost."""

    arguments: str
    value: float
    text: str
    cost: float


DEFAULT = Gain("a=√5", math.sqrt(1 / 3), "√(1/3)", 0.0)
RELU = Gain("", math.sqrt(2), "√2", 1.0)

KAIMING = (
    RELU,
    Gain("nonlinearity='linear'", 1.0, "1", 1.0),
    Gain("nonlinearity='tanh'", 5 / 3, "5/3", 4.0),
    Gain("a=0.2", math.sqrt(2 / 1.04), "√(2/1.04)", 4.0),
    Gain("nonlinearity='selu'", 3 / 4, "3/4", 4.0),
)

XAVIER = (
    Gain("", 1.0, "1", 1.0),
    Gain("gain=√2", math.sqrt(2), "√2", 3.0),
    Gain("gain=1/√2", math.sqrt(0.5), "1/√2", 4.0),
    Gain("gain=5/3", 5 / 3, "5/3", 4.0),
    Gain("gain=0.1", 0.1, "0.1", 5.0),
    Gain("gain=0.01", 0.01, "0.01", 5.0),
)


class Candidate(NamedTuple):
    """A prescription: its std, its cost, and how to write it down if it fits."""

    std: float
    cost: float
    scheme: Callable[[], Scheme]


def schemes(
    statistics: Statistics, shape: Shape, use: Use | None, recorded: Write | None = None
) -> tuple[Scheme, ...]:
    """Known schemes that fit, best first; empty when none does.

    Of several that fit, the one that `recorded`, the last write, called comes first. If only single values
    stand out from a draw that is otherwise recognised, the bulk's schemes are returned with `fit="bulk"`.
    """
    if statistics.count == 0 or statistics.nans or statistics.infs:
        return ()
    if statistics.constant:
        return (_constant(statistics.minimum),)
    called = _called(recorded)
    structured = _identity(statistics, shape) or _orthogonal(statistics, shape, called)
    if structured is not None:
        return (structured,)
    draw = drawn(statistics)
    if draw is None:
        return ()
    found = _ranked(draw, shape, use)
    if not found:
        rest = bulk(draw)
        found = [replace(scheme, fit="bulk") for scheme in _ranked(rest, shape, use)] if rest else []
    found.sort(key=lambda scheme: scheme.name != called)
    if _strewn_zeros(statistics, shape):
        return tuple(_thinned(scheme, statistics) for scheme in found)
    return tuple(found)


def _called(write: Write | None) -> str | None:
    """The name of the scheme whose function wrote the values last."""
    if write is None or write.kind != "random" or not write.replaces:
        return None
    return "default" if write.default and write.function == "kaiming_uniform_" else write.function


def expected(use: Use | None, recognised: tuple[Scheme, ...] = ()) -> Scheme | None:
    """What the weight should look like: the recognised scheme if it suits the true fans, else theory's.

    Theory's is a normal draw of std gain/√fan_in (He et al. 2015, eq. 10 and 15); None without a fan-in.
    """
    for scheme in recognised:
        if scheme.reading == "true":
            return scheme
    if use is None or not use.fan_in or use.role not in ("matrix", "kernel", "recurrent"):
        return None
    factor = theory.gain(use.activation) or 1.0
    known = next((gain for gain in KAIMING if math.isclose(gain.value, factor)), None)
    return _by_gain(
        GAUSSIAN,
        known or Gain(f"gain {factor:.3g}", factor, f"{factor:.3g}", 0.0),
        use.fan_in,
        "fan_in",
        "true",
    )


def _ranked(draw: Draw, shape: Shape, use: Use | None) -> list[Scheme]:
    fans = tuple(_fans(shape, use))
    scored: list[tuple[float, Scheme]] = []
    for family in FAMILIES:
        if not belongs(draw, family):
            continue
        candidates = _free(draw, family)
        if draw.centre == 0:
            candidates += [*_by_fan(family, fans), *_by_size(draw, family, shape, use)]
        scored += [
            (family.cost + candidate.cost - log_likelihood(draw, candidate.std, family), candidate.scheme())
            for candidate in candidates
            if (family is UNIFORM and draw.centre) or agrees(draw, candidate.std, family)
        ]
    return [scheme for _, scheme in sorted(scored, key=lambda entry: entry[0])]


# ---------------------------------------------------------------- scaled by a fan
@dataclass(frozen=True, slots=True)
class _Fans:
    fan_in: int | None
    fan_out: int | None
    reading: Reading
    cost: float


def _fans(shape: Shape, use: Use | None) -> Iterator[_Fans]:
    true = (use.fan_in, use.fan_out) if use is not None else (None, None)
    if any(true):
        yield _Fans(*true, "true", 0.0)
    stored = theory.fans(shape)
    if stored is not None and stored != true and min(stored) > 0:
        yield _Fans(*stored, "nn.init", STORED_FAN if any(true) else 0.0)


def _by_fan(family: Family, fans: tuple[_Fans, ...]) -> Iterator[Candidate]:
    """PyTorch's default, Kaiming, Xavier, LeCun, and their truncated forms."""
    one_sided = (DEFAULT, *KAIMING) if family is UNIFORM else KAIMING
    for fan in fans:
        sizes: list[tuple[str, float, tuple[Gain, ...]]] = []
        if fan.fan_in:
            sizes.append(("fan_in", fan.fan_in, one_sided))
        if fan.fan_out:
            sizes.append(("fan_out", fan.fan_out, one_sided))
        if fan.fan_in and fan.fan_out:
            sizes.append(("fan_avg", (fan.fan_in + fan.fan_out) / 2, XAVIER))
        for mode, size, gains in sizes:
            for gain in gains:
                cost = fan.cost + gain.cost + (0.5 if mode == "fan_out" else 0.0)
                build = partial(_by_gain, family, gain, size, mode, fan.reading)
                yield Candidate(gain.value / math.sqrt(size), cost, build)
        if family is CUT_2 and fan.fan_in:
            for gain in KAIMING[:2]:
                cut = partial(_cut_after, family, gain, fan.fan_in, fan.reading)
                std = gain.value / math.sqrt(fan.fan_in) / family.parent
                yield Candidate(std, fan.cost + gain.cost + 1, cut)


def _by_gain(family: Family, gain: Gain, size: float, mode: str, reading: Reading) -> Scheme:
    """The scheme of std gain/√size."""
    std = gain.value / math.sqrt(size)
    uniform = family is UNIFORM
    name = f"{'xavier' if mode == 'fan_avg' else 'kaiming'}_{'uniform' if uniform else 'normal'}_"
    if family.distribution == "truncated":
        name = "variance_scaling"
        scale = "" if gain.value == 1 else f"scale={gain.value**2:.3g}, "
        text = f"variance_scaling({scale}{mode}, truncated at {family.cut:g} std)"
    elif gain is DEFAULT:
        name = "default" if mode == "fan_in" else "uniform_"
        text = "kaiming_uniform_(a=√5)" if mode == "fan_in" else "uniform_(±1/√fan_out)"
    else:
        arguments = (gain.arguments,) if mode == "fan_avg" else (f"mode={mode!r}", gain.arguments)
        text = f"{name}({', '.join(filter(None, arguments))})"
    return Scheme(
        name=name,
        distribution=family.distribution,
        std=std,
        bound=None if family is GAUSSIAN else family.peak * std,
        gain=gain.value,
        fan=round(size),
        fan_mode=mode,
        text=text,
        formula=_formula(gain, mode, uniform=uniform),
        reading=reading,
    )


def _cut_after(family: Family, gain: Gain, size: int, reading: Reading) -> Scheme:
    """trunc_normal_ whose std before cutting is gain/√fan_in."""
    formula = _formula(gain, "fan_in", uniform=False)
    std = gain.value / math.sqrt(size) / family.parent
    return Scheme(
        name="trunc_normal_",
        distribution="truncated",
        std=std,
        bound=family.peak * std,
        gain=gain.value / family.parent,
        fan=size,
        fan_mode="fan_in",
        text=f"trunc_normal_(std={formula}, ±{family.cut:g} std)",
        formula=f"{1 / family.parent:.3f}·{formula}",
        reading=reading,
    )


def _formula(gain: Gain, mode: str, *, uniform: bool) -> str:
    """The std as a formula, or the bound (√3 times that) of a uniform: "√(6/fan_in)"."""
    size = "(fan_in+fan_out)" if mode == "fan_avg" else mode
    factor = (3 if uniform else 1) * (2 if mode == "fan_avg" else 1)
    numerator = gain.value**2 * factor
    if math.isclose(numerator, round(numerator)):
        return f"1/√{size}" if round(numerator) == 1 else f"√({round(numerator)}/{size})"
    return f"{gain.text}/√{size}" if factor == 1 else f"{gain.text}·√({factor}/{size})"


# ---------------------------------------------------------------- scaled by something else
def _by_size(draw: Draw, family: Family, shape: Shape, use: Use | None) -> Iterator[Candidate]:
    """1/√hidden of recurrent layers, 1/√d of an embedding, 0.02/√(2·blocks) of residual projections."""
    if family is UNIFORM and (len(shape) == 1 or (use is not None and use.role == "recurrent")):
        for gates in (4, 3, 1):
            if shape[0] % gates == 0:
                std = 1 / math.sqrt(3 * (shape[0] // gates))
                yield Candidate(std, 0.0, partial(_recurrent, shape[0] // gates))
    if family is GAUSSIAN and len(shape) > 1:
        std = 1 / math.sqrt(shape[-1])
        text = f"normal_(std=1/√{shape[-1]})"
        yield Candidate(std, 2.0, partial(Scheme, "normal_", "normal", std, text=text, formula="1/√d"))
    if family is GAUSSIAN:
        yield from _depth_scaled(draw)


def _recurrent(hidden: int) -> Scheme:
    bound = 1 / math.sqrt(hidden)
    text = f"uniform_(±1/√{hidden})"
    return Scheme("default", "uniform", bound / math.sqrt(3), bound, text=text, formula="1/√hidden")


def _depth_scaled(draw: Draw) -> Iterator[Candidate]:
    """0.02/√(2L) for the whole L that alone fits (Radford et al., GPT-2, 2019, §2.3)."""
    blocks = round((0.02 / draw.std) ** 2 / 2)
    low, high = theory.std_interval(draw.n, 3.0, MISFIT)
    if 2 <= blocks <= 256 and (high / low) ** 2 * blocks < blocks + 0.5:
        std = 0.02 / math.sqrt(2 * blocks)
        formula = f"0.02/√(2·{blocks})"
        text = f"normal_(std={formula})"
        yield Candidate(
            std, FREE + DIGIT, partial(Scheme, "normal_", "normal", std, text=text, formula=formula)
        )


def _free(draw: Draw, family: Family) -> list[Candidate]:
    """The family with usual parameters, and with the plainest of those that fit."""
    if family is UNIFORM and draw.centre:
        return [_interval(draw)]
    written = {"uniform": family.peak, "normal": 1.0, "truncated": family.parent}[family.distribution]
    options = {float(f"{draw.std * written:.{digits}e}"): digits + 1 for digits in reversed(range(4))}
    if family.peak < math.inf:
        step = 10.0 ** math.floor(math.log10(draw.reach))
        edge = draw.reach * written / family.peak / draw.slack
        options |= {math.ceil(edge / step * 10**d) * step / 10**d: d + 1 for d in reversed(range(4))}
    mean = _plain_mean(draw)

    def candidate(value: float, cost: float) -> Candidate:
        return Candidate(value / written, cost, partial(_plain, family, value, mean))

    usual = [candidate(value, FREE) for value in USUAL]
    fitting = [
        candidate(value, FREE + DIGIT * digits)
        for value, digits in options.items()
        if value not in USUAL and agrees(draw, value / written, family)
    ]
    measured = candidate(draw.std * written, FREE + 6 * DIGIT)
    plainest = min(
        fitting or [measured], key=lambda entry: entry.cost - log_likelihood(draw, entry.std, family)
    )
    return [*usual, plainest]


def _plain(family: Family, value: float, mean: float) -> Scheme:
    """The scheme whose written parameter (bound, std, or std before cutting) is `value`."""
    shift = f"mean={mean:.4g}, " if mean else ""
    if family is UNIFORM:
        std, name, text = value / family.peak, "uniform_", f"uniform_(±{value:.4g})"
    elif family is GAUSSIAN:
        std, name, text = value, "normal_", f"normal_({shift}std={value:.4g})"
    else:
        std, name = value / family.parent, "trunc_normal_"
        text = f"trunc_normal_({shift}std={value:.4g}, ±{family.cut:g} std)"
    bound = None if family is GAUSSIAN else abs(mean) + family.peak * std
    formula = f"{'' if family.parent == 1 else f'{1 / family.parent:.3f}·'}{value:.4g}"
    return Scheme(name, family.distribution, std, bound, text=text, formula=formula, mean=mean)


def _plain_mean(draw: Draw) -> float:
    """The mean of fewest digits within its sampling error."""
    error = theory.mean_error(draw.std, draw.n, MISFIT)
    options = (float(f"{draw.mean:.{digits}e}") for digits in range(4))
    return next((x for x in options if abs(x - draw.mean) <= error), draw.mean) if draw.centre else 0.0


def _interval(draw: Draw) -> Candidate:
    """U(a, b) off zero, with ends that are plain where the gap to the extremes allows."""
    gap = (draw.high - draw.low) * (MISFIT ** (-1 / draw.n) * draw.slack - 1)
    low, high = _plain_end(draw.low - gap, draw.low), _plain_end(draw.high + gap, draw.high)
    std = (high - low) / math.sqrt(12)
    text = f"uniform_({low:.4g}, {high:.4g})"
    return Candidate(
        std,
        2 * (FREE + DIGIT),
        partial(
            Scheme, "uniform_", "uniform", std, max(abs(low), abs(high)), text=text, mean=(low + high) / 2
        ),
    )


def _plain_end(outer: float, inner: float) -> float:
    """The number of fewest digits between the measured extreme and the farthest end that is likely."""
    least, most = sorted((outer, inner))
    if least <= 0 <= most:
        return 0.0
    options = (float(f"{(least + most) / 2:.{digits}e}") for digits in range(4))
    return next((x for x in options if least <= x <= most), inner)


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


def _orthogonal(statistics: Statistics, shape: Shape, called: str | None) -> Scheme | None:
    """Rows (or columns) orthogonal and of one length: an independent draw misses that by 1/√length.

    One or two of them tell nothing but by the name of what drew them.
    """
    if len(shape) < 2:
        return None
    short, long = sorted((shape[0], statistics.count // shape[0]))
    error = 0.0 if short == 1 else statistics.orthogonality
    if error is None or error > 0.1 / math.sqrt(long) or (short < 3 and called != "orthogonal_"):
        return None
    gain = statistics.rms * math.sqrt(long)
    known = next((g.text for g in XAVIER if math.isclose(g.value, gain, rel_tol=2e-3)), f"{gain:.4g}")
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


def _strewn_zeros(statistics: Statistics, shape: Shape) -> bool:
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
