"""What the values of a tensor are: figures and the schemes that fit them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


# ---------------------------------------------------------------- statistics: what the values are
@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of one tensor's values, from a single read.

    Extremes and moments are over the finite values (NaN if there are none). A complex value counts as
    two reals. Slices of a single element count neither as duplicates nor as constant.
    """

    count: int
    minimum: float
    maximum: float
    mean: float
    std: float
    skewness: float
    kurtosis: float  # 3 for a normal, 1.8 for a uniform distribution, 0 for a constant
    zeros: int = 0
    nans: int = 0
    infs: int = 0
    subnormals: int = 0
    digest: str = ""  # equal for bit-identical values of the same shape and dtype
    duplicates: tuple[int, ...] = ()  # per axis: slices that are exact copies of an earlier slice
    constant_slices: tuple[int, ...] = ()  # per axis: slices that are one constant
    sample: tuple[float, ...] = ()  # up to 512 sorted values, drawn evenly over the tensor
    #: how far W·Wᵀ of some rows (columns, if fewer) is from a multiple of I; None for what is no matrix
    orthogonality: float | None = None
    parts: tuple[Statistics, ...] = ()  # equal slices along axis 0 that a fused tensor is made of

    @property
    def absmax(self) -> float:
        """Largest magnitude."""
        return max(abs(self.minimum), abs(self.maximum))

    @property
    def rms(self) -> float:
        """Root mean square."""
        return float((self.mean**2 + self.std**2) ** 0.5)

    @property
    def constant(self) -> bool:
        """Every value is the same finite number."""
        return self.count > 0 and self.nans == 0 and self.infs == 0 and self.minimum == self.maximum


@dataclass(frozen=True, slots=True)
class Padding:
    """The row of a lookup table that stands for no entry."""

    row: int
    largest: float  # largest magnitude in it


@dataclass(frozen=True, slots=True)
class Scheme:
    """A known initialisation that fits the sample, best first.

    `std` and `bound` are what the scheme prescribes at this size; `fan` is the number it was computed
    from and `fan_mode` which one that is for the stored shape as nn.init reads it.
    """

    name: str  # "kaiming_uniform_", "xavier_normal_", "default", "orthogonal_", "normal_", "constant_", …
    distribution: Literal[
        "uniform", "normal", "truncated", "orthogonal", "constant", "sparse", "identity", "unknown"
    ]
    std: float
    bound: float | None = None  # largest magnitude that the scheme gives; None where unbounded
    gain: float | None = None  # None where the scheme takes none
    fan: int | None = None  # None where the scheme does not depend on a fan
    fan_mode: str | None = None  # "fan_in", "fan_out", "fan_avg"; None likewise
    text: str = ""  # as to be shown: "kaiming_uniform_(a=√5)"
    formula: str = ""  # of the std, or of the bound of a uniform: "1/√fan_in"
    mean: float = 0.0  # centre of the distribution
    #: whose fan: the traced use's, or that of the stored shape; None without a fan
    reading: Literal["true", "nn.init"] | None = None
    fit: Literal["all", "bulk"] = "all"  # "bulk": fits but for single values that stand out
