"""What one forward and backward showed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from initlint.finding import Site

Shape = tuple[int, ...]


# ---------------------------------------------------------------- probe: what the signal does
SignalKind = Literal[
    "input", "weight", "activation", "norm", "add", "softmax", "attention", "output", "other"
]


@dataclass(frozen=True, slots=True)
class Scale:
    """Scale of a tensor that flows forward or backward."""

    rms: float
    mean: float
    std: float
    absmax: float
    zeros: float  # fraction
    nans: int = 0
    infs: int = 0


@dataclass(frozen=True, slots=True)
class Signal:
    """One operation's output in the probe, in order of execution."""

    node: str
    module: str  # innermost module path
    operation: str  # "aten.relu", …
    function: str  # what it computes: "relu", "softmax", "batch_norm", "product", else the operator's name
    kind: SignalKind
    shape: Shape
    depth: int  # weights on the longest path from the input to here
    site: Site | None  # user's line that ran it
    forward: Scale
    backward: Scale | None = None  # of its gradient; None where none arrived
    weights: tuple[str, ...] = ()  # parameters consumed directly
    sources: tuple[str, ...] = ()  # nodes of the nearest signals flowing in; a residual's stream first
    input_rms: float | None = None  # rms of the data that a weight multiplies; None but for such products
    units: int = 0  # channels or features of the output
    dead_units: int = 0  # units that were zero for every observation
    observations: int = 0  # values seen per unit (batch × positions)
    saturated: float = 0.0  # fraction on the flat part of the activation
    #: std over the batch / rms: 0 when outputs do not depend on the input; None without two inputs to compare
    across_inputs: float | None = None
    independence: float = 1.0  # share of the inputs that differ in ways of their own; the rest are mixtures
    residual: bool = False  # output of a residual addition
    branch_ratio: float | None = None  # rms of the branch / of the stream; None but for a residual addition
    leaves: bool = False  # is an output of the model, or becomes one without another signal
    summands: tuple[tuple[str, ...], ...] = ()  # addition: the last weights behind each operand
    operands: tuple[float, float] | None = None  # rms of each operand; None but for an addition


@dataclass(frozen=True, slots=True)
class Gradient:
    """A parameter's gradient after one backward."""

    scale: Scale | None  # None where no gradient arrived
    duplicates: tuple[int, ...] = ()  # per axis: slices whose gradients equal an earlier slice's
    underflow: float = 0.0  # fraction that is zero in the probe's dtype but not in float32


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a few SGD steps on a copy made of a suspicion (equal units, zero gradient)."""

    steps: int
    zero_gradient: bool  # the gradient was exactly zero at every step
    stuck_units: int = 0  # units that were equal to another at the start and still are
    units: int = 0


@dataclass(frozen=True, slots=True)
class Logits:
    """An output that looks like class logits, and the loss it starts with."""

    node: str
    classes: int
    std: float
    loss: float  # cross-entropy against random targets
    weights: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Coupling:
    """Buffers of which the probe's forward made one the ratio of two others: means = sums / counts."""

    counts: str
    sums: str
    means: str
    disagreement: float  # relative distance of the means from that ratio before the forward
    jump: float  # norm of the means after the forward / before
