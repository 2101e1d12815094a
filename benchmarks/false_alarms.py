"""How often healthy draws are called unhealthy, and how often a scheme is recognised. All by simulation.

    python -m benchmarks.false_alarms [--draws 1000000] [--models 300]

First table: healthy tensors outside the intervals of `initlint.theory`, at several levels; a level α that is
kept shows a rate of at most α on either side. At the shipped 10⁻⁶ a million normal draws leave about one.
Second table: tensors too large to be drawn a million times; how many standard deviations of the measured
statistic the interval spans (4.75 are needed). Third: what `initlint.values` makes of draws
by `torch.nn.init`. Fourth: two whole checks on healthy draws. IL205 on values alone: the levels of the tests
behind it are raised until its alarms are frequent enough to count; the shipped level is 10⁻⁵. IL201's
outliers: how small the std of the recognised bulk gets against the true one, and from it the chance that
one of n normal values lies beyond 12 of those, in closed form. Fifth: IL401's bound on dead units, in layers
whose inputs are few, narrow or mixtures of a few.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from initlint import theory
from initlint.analysis.fans import misreading
from initlint.evidence.build import Provenance, Write
from initlint.evidence.model import Evidence, Weight
from initlint.evidence.signals import Shape
from initlint.evidence.use import Use
from initlint.evidence.values import Statistics
from initlint.finding import Site
from initlint.probe.reductions import reductions
from initlint.theory import distributions
from initlint.values import read, schemes

Floats = NDArray[np.floating]
LEVELS = (1e-2, 1e-3, 1e-4, 1e-6)


# ---------------------------------------------------------------- comparisons


def normal(random: np.random.Generator, draws: int, n: int) -> Floats:
    return random.standard_normal((draws, n), dtype=np.float32)


def uniform(random: np.random.Generator, draws: int, n: int) -> Floats:
    values = random.random((draws, n), dtype=np.float32)
    scaled: Floats = (2 * values - 1) * np.float32(math.sqrt(3))
    return scaled


def truncated(random: np.random.Generator, draws: int, n: int) -> Floats:
    values = random.standard_normal((draws, n), dtype=np.float32)
    outside = np.abs(values) > 2
    while outside.any():
        values[outside] = random.standard_normal(int(outside.sum()), dtype=np.float32)
        outside = np.abs(values) > 2
    scaled: Floats = values / np.float32(math.sqrt(theory.truncated_moments(2.0)[0]))
    return scaled


def orthogonal(random: np.random.Generator, draws: int, n: int) -> Floats:
    side = math.isqrt(n)
    basis, triangle = np.linalg.qr(random.standard_normal((draws, side, side)))
    signs = np.sign(np.diagonal(triangle, axis1=1, axis2=2))
    scaled: Floats = (basis * signs[:, None, :] * math.sqrt(side)).reshape(draws, side * side)
    return scaled


Drawer = Callable[[np.random.Generator, int, int], Floats]
DISTRIBUTIONS: dict[str, tuple[Drawer, float]] = {
    "normal": (normal, 3.0),
    "uniform": (uniform, 1.8),
    "truncated": (truncated, theory.truncated_moments(2.0)[1] / theory.truncated_moments(2.0)[0] ** 2),
    "orthogonal": (orthogonal, 3.0),
}


def batches(drawer: Drawer, n: int, draws: int) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Mean, std and largest magnitude of every draw of std 1."""
    random = np.random.default_rng(n)
    size = max(1, min(draws, 4_000_000 // n))
    for start in range(0, draws, size):
        values = drawer(random, min(size, draws - start), n)
        double = values.astype(np.float64) if n <= 4096 else values
        mean = double.mean(axis=1, dtype=np.float64)
        square = np.square(double).mean(axis=1, dtype=np.float64)
        yield mean, np.sqrt(np.maximum(square - mean**2, 0)), np.abs(values).max(axis=1)


def comparisons(draws: int) -> None:
    print(
        "healthy draws outside the interval, of all drawn (std low | std high | mean | largest), by level α\n"
    )
    print(
        f"{'values':>9} {'distribution':>12} {'draws':>9}  "
        + "  ".join(f"{f'α = {a:g}':^35}" for a in LEVELS)
    )
    for n in (4, 9, 16, 64, 256, 1024):
        for name, (drawer, kurtosis) in DISTRIBUTIONS.items():
            some = min(draws, (100_000_000 if name != "orthogonal" else 2_000_000) // n)
            counts = np.zeros((len(LEVELS), 4), int)
            for mean, std, largest in batches(drawer, n, some):
                for row, alpha in enumerate(LEVELS):
                    low, high = theory.std_interval(n, kurtosis, alpha)
                    errors = mean_errors(std, n, alpha)
                    counts[row] += (
                        (std < low).sum(),
                        (std > high).sum(),
                        (np.abs(mean) > errors).sum(),
                        (largest > theory.largest(n, alpha)).sum(),
                    )
            cells = "  ".join(
                " ".join(f"{rate:8.1e}" if rate else "       0" for rate in row / some) for row in counts
            )
            print(f"{n:>9,} {name:>12} {some:>9,}  {cells}")


def mean_errors(std: Floats, n: int, alpha: float) -> Floats:
    return theory.mean_error(1.0, n, alpha) * std


def large(draws: int) -> None:
    print(
        "\nlarge tensors: half-width of the shipped interval in measured standard deviations (needed: 4.75)\n"
    )
    columns = f"{'std low':>8} {'std high':>9} {'mean':>6} {'largest seen / bound':>21}"
    print(f"{'values':>9} {'distribution':>12} {'draws':>6} {columns}")
    for n in (16_384, 131_072, 1_048_576):
        for name, (drawer, kurtosis) in DISTRIBUTIONS.items():
            some = min(draws, 200_000_000 // n) if name != "orthogonal" else 100
            if name == "orthogonal" and n > 16_384:
                continue
            figures = [np.concatenate(column) for column in zip(*batches(drawer, n, some), strict=True)]
            mean, std, largest = figures
            low, high = theory.std_interval(n, kurtosis)
            spread = max(float(std.std()), 1e-6)
            below, above = (1 - low) / spread, (high - 1) / spread
            centre = theory.mean_error(1.0, n) / float(mean.std())
            reach = float(largest.max()) / theory.largest(n)
            print(f"{n:>9,} {name:>12} {some:>6} {below:>8.2f} {above:>9.2f} {centre:>6.2f} {reach:>21.2f}")


# ---------------------------------------------------------------- recognition


def cut(weight: torch.Tensor) -> torch.Tensor:
    return nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)


SCHEMES: dict[str, tuple[Callable[[torch.Tensor], object], str]] = {
    "default": (lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)), "kaiming_uniform_(a=√5)"),
    "kaiming_uniform": (nn.init.kaiming_uniform_, "kaiming_uniform_(mode='fan_in')"),
    "kaiming_normal": (nn.init.kaiming_normal_, "kaiming_normal_(mode='fan_in')"),
    "kaiming_normal out": (
        lambda w: nn.init.kaiming_normal_(w, mode="fan_out"),
        "kaiming_normal_(mode='fan_out')",
    ),
    "lecun_normal": (
        lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear"),
        "kaiming_normal_(mode='fan_in', nonlinearity='linear')",
    ),
    "xavier_uniform": (nn.init.xavier_uniform_, "xavier_uniform_()"),
    "xavier_normal": (nn.init.xavier_normal_, "xavier_normal_()"),
    "xavier_uniform √2": (lambda w: nn.init.xavier_uniform_(w, math.sqrt(2)), "xavier_uniform_(gain=√2)"),
    "orthogonal": (nn.init.orthogonal_, "orthogonal_()"),
    "normal 0.02": (lambda w: nn.init.normal_(w, std=0.02), "normal_(std=0.02)"),
    "trunc_normal ±2 std": (cut, "trunc_normal_(std=0.02, ±2 std)"),
    "normal 1": (nn.init.normal_, "normal_(std=1)"),
    "uniform 0.1": (lambda w: nn.init.uniform_(w, -0.1, 0.1), "uniform_(±0.1)"),
    "bfloat16 default": (
        lambda w: w.copy_(nn.init.kaiming_uniform_(w, a=math.sqrt(5)).bfloat16()),
        "kaiming_uniform_(a=√5)",
    ),
}
SHAPES: tuple[Shape, ...] = ((10, 7), (20, 13), (60, 20), (32, 24, 3, 3), (400, 300))


def recognition(draws: int) -> None:
    print("\nrecognised: among the schemes that fit / the same family first / first, in % of draws\n")
    sizes = ["x".join(map(str, shape)) for shape in SHAPES]
    header = "  ".join(f"{size:^22}" for size in sizes)
    print(f"{'scheme':>20}  {header}")
    confusion: dict[str, Counter[str]] = {}
    for name, (initialise, text) in SCHEMES.items():
        cells = []
        for shape in SHAPES:
            torch.manual_seed(math.prod(shape))
            tensors = {}
            for index in range(draws):
                tensors[str(index)] = weight = torch.empty(shape)
                initialise(weight)
            among = first = family = 0
            for statistics in read(tensors).values():
                assert not isinstance(statistics, str)
                found = schemes(statistics, shape, None)
                texts = [scheme.text for scheme in found if scheme.fit == "all"]
                distribution = next((s.distribution for s in found if s.text == text), None)
                among += text in texts
                same = next((s.std for s in found if s.text == text), math.nan)
                right = bool(found) and math.isclose(found[0].std, same)  # two formulas may give one number
                first += right
                family += bool(found) and found[0].distribution == distribution
                if math.prod(shape) >= 256 and not right:
                    confusion.setdefault(name, Counter())[found[0].text if found else "nothing"] += 1
            cells.append(f"{100 * among / draws:6.1f} {100 * family / draws:6.1f} {100 * first / draws:6.1f}")
        print(f"{name:>20}  " + "  ".join(f"{cell:^22}" for cell in cells))
    print("\nwhat came first instead, from 256 values on\n")
    total = draws * sum(math.prod(shape) >= 256 for shape in SHAPES)
    for name, answers in confusion.items():
        listed = ", ".join(f"{text} {100 * count / total:.1f} %" for text, count in answers.most_common(4))
        print(f"{name:>20}  {listed}")


# ---------------------------------------------------------------- whole checks


#: A write of which only the values are known.
WRITTEN = Write(0, "Tensor.copy_", "copy_", "copy", "copy", Site("model.py", 1, "build"))
UNEVEN: tuple[Shape, ...] = ((16, 16), (64, 16), (16, 64), (128, 8), (96, 96))


def values_alone(draws: int) -> None:
    """IL205 where nothing but the values tells which fan a draw was scaled by."""
    print("\nwrong-fan by values alone: healthy draws that are called wrong, by level of the tests\n")
    levels = (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-5)
    print(f"{'shape':>8} {'draws':>7}  " + "  ".join(f"{level:>8.0e}" for level in levels))
    drawers = [draw for draw, text in SCHEMES.values() if "fan_out" not in text and "√5" not in text]
    readers = distributions, import_module("initlint.values.schemes")  # of the level
    for shape in UNEVEN:
        torch.manual_seed(math.prod(shape))
        tensors = {}
        for index in range(draws):
            tensors[str(index)] = weight = torch.empty(shape)
            drawers[index % len(drawers)](weight)
        use = Use("matrix", "aten.mm", "layer", shape[1], shape[0], (1,), (0,))
        cells = []
        for level in levels:
            with patch.object(readers[0], "MISFIT", level), patch.object(readers[1], "MISFIT", level):
                cells.append(sum(wrong(statistics, shape, use) for statistics in read(tensors).values()))
        rates = "  ".join(f"{cell / draws:8.1e}" if cell else "       0" for cell in cells)
        print(f"{'x'.join(map(str, shape)):>8} {draws:>7,}  {rates}")


def wrong(statistics: object, shape: Shape, use: Use) -> bool:
    """The rule's test: another fan, and a scale that is off by its least ratio."""
    assert isinstance(statistics, Statistics)
    found = schemes(statistics, shape, use)
    weight = Weight(
        "weight", "parameter", shape, "float32", provenance=Provenance(writes=(WRITTEN,)),
        statistics=statistics, use=use, schemes=found,
    )  # fmt: skip
    misread = misreading(Evidence((weight,)), weight)
    return misread is not None and max(misread.ratio, 1 / misread.ratio) >= 1.35


def outliers(draws: int) -> None:
    print("\noutliers: draws read as a bulk with outliers; smallest std of the bulk; chance of an alarm\n")
    for n in (256, 4096, 65_536):
        torch.manual_seed(n)
        some = min(draws, 20_000_000 // n)
        tensors = {str(index): torch.randn(1, n) for index in range(some)}
        for weight in tensors.values():
            weight[0, 0] = 7.0  # beyond what the whole is accepted with, so that its bulk is looked at
        bulks = [
            first.std
            for statistics in read(tensors).values()
            if isinstance(statistics, Statistics)
            for first in schemes(statistics, (1, n), None)[:1]
            if first.fit == "bulk"
        ]
        least = min(bulks, default=1.0)
        alarm = n * math.erfc(12 * least / math.sqrt(2))
        print(
            f"{n:>9,} values, {some:,} draws: {len(bulks):,} bulks, std from {least:.3f}, alarms {alarm:.0e}"
        )


def dead_units(draws: int) -> None:
    print("\ndead units: healthy layers beyond the bound that chance leaves, by level α\n")
    levels = (1e-1, 1e-2, 1e-3, 1e-6)
    print(f"{'inputs':>24} {'draws':>7}  " + "  ".join(f"{level:>8.0e}" for level in levels))
    for name, (rows, dimensions, rectified) in {
        "32 of 64 dimensions": (32, 64, False),
        "32 of 64, rectified": (32, 64, True),
        "32 of 3 dimensions": (32, 3, False),
        "64 of 8, rectified": (64, 8, True),
        "40 of 4, rectified": (40, 4, True),
        "4 of 64, rectified": (4, 64, True),
    }.items():
        torch.manual_seed(rows * dimensions)
        counts = np.zeros(len(levels), int)
        for _ in range(draws):
            x = torch.randn(rows, dimensions)
            x = torch.relu(x @ torch.randn(dimensions, dimensions)) if rectified else x
            if not x.any():
                continue
            before = x @ torch.randn(dimensions, 128) * math.sqrt(2 / dimensions)
            seen = reductions(before, 1, rows)
            varying = (seen.across_inputs or 0.0) * seen.scale.rms
            shared = math.sqrt(max(seen.scale.std**2 - varying**2, 0.0))
            chance = theory.never_positive(shared, varying, rows * seen.independence)
            dead = float((before.amax(0) <= 0).float().mean())
            counts += [dead > theory.fraction_bound(chance, 128, level) for level in levels]
        rates = "  ".join(f"{count / draws:8.1e}" if count else "       0" for count in counts)
        print(f"{name:>24} {draws:>7,}  {rates}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=300, help="draws per scheme and shape")
    options = parser.parse_args()
    torch.set_num_threads(1)
    comparisons(options.draws)
    large(2000)
    recognition(options.models)
    values_alone(10 * options.models)
    outliers(10 * options.models)
    dead_units(10 * options.models)


if __name__ == "__main__":
    main()
