"""How the graph uses a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


# ---------------------------------------------------------------- trace: how it is used
class Step(NamedTuple):
    """A function of stored values: "exp", "neg", or "mul" with the constant that it multiplies by."""

    operation: str
    value: float | None = None  # None where the function takes no constant


@dataclass(frozen=True, slots=True)
class Wiring:
    """What leads to a use of a tensor, and what its result is for."""

    sources: tuple[str, ...] = ()  # weights whose outputs it takes, with no weight between
    steps: tuple[Step, ...] = ()  # what is done to the stored values before they meet the data
    factor: float | None = 1.0  # constant that multiplies the output before its activation; None if unknown
    multipliers: tuple[str, ...] = ()  # stored tensors by which it is multiplied there as well
    gates: tuple[int, ...] = ()  # parts of the output that scale a residual branch they do not depend on
    cosine: bool = False  # scales inner products of normalised vectors
    unit: bool = False  # its rows are divided by their norms before they meet the data


@dataclass(frozen=True, slots=True)
class Use:
    """How the graph consumes a tensor.

    `fan_in` is the true number of inputs summed into one output (receptive field included, divided by
    groups), `fan_out` the number of outputs that one input reaches. Axes index the stored tensor.
    """

    role: Literal[
        "matrix", "kernel", "lookup", "recurrent", "gain", "shift", "table", "state", "scalar", "other"
    ]
    operation: str  # "aten.mm", "aten.convolution", …
    module: str  # path of the module in which it is used
    fan_in: int | None = None  # None where it is not summed over: a gain, a shift, a lookup table
    fan_out: int | None = None  # None likewise
    contracted: tuple[int, ...] = ()  # axes that are summed over
    outputs: tuple[int, ...] = ()  # axes that become features of the output
    stacked: tuple[int, ...] = ()  # axes over independent matrices (experts, heads)
    groups: int = 1
    transposed: bool = False  # transposed convolution
    parts: int = 1  # fused matrices along the output axis (QKV, gates), told by the split that follows
    woven: int = 1  # matrices fused head by head: rows of each follow each other within every head
    activation: str | None = None  # before the next weight: "relu", "softmax", "none"; None if not known
    normalised_before: bool = False  # its input comes out of a normalisation
    normalised_after: bool = False  # its output meets a normalisation before the next weight
    ends_residual: bool = False  # its output is added to an ancestor of its input
    reaches_output: bool = False  # its output leaves the model without another weight
    lookup_too: bool = False  # used both as lookup table and as matrix
    depth: int = 0  # weights on the longest path from the input up to and including this one
    node: str = ""  # name of the consuming graph node, key into Evidence.signals
    uses: int = 1  # times it is consumed in one forward
    padding: int | None = None  # row that a lookup treats as no entry; None where there is none
    offset: float | None = 0.0  # number added before use, as in 1 + gain; None where changed otherwise
    wiring: Wiring = Wiring()
    bias: str | None = None  # what is added to the outputs of a weight or gain; None where nothing is
    weight: str | None = None  # the weight or gain to whose outputs a bias is added; None for anything else

    @property
    def fused(self) -> int:
        """Matrices that are fused in it, one after the other or head by head."""
        return self.parts * self.woven
