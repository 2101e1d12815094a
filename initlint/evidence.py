"""What was measured about a model: frozen records of floats, strings and shapes.

Rules read nothing else. No record holds a tensor, a module or a graph, so evidence can be pickled,
compared and written by hand in a test. A field is None where the stage that fills it did not run or
could not tell; a rule that meets None stays silent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod, sqrt
from typing import Literal, NamedTuple

from initlint.finding import Site

Shape = tuple[int, ...]

# ---------------------------------------------------------------- construct: who wrote the values


@dataclass(frozen=True, slots=True)
class Write:
    """One write to the values of a tensor, seen while the model was built."""

    order: int  # position among all writes of the build
    operation: str  # as a user spells it: "nn.init.zeros_", "Tensor.normal_", "load_state_dict"
    kind: Literal["random", "constant", "copy", "transform", "unknown"]
    site: Site  # the innermost line outside torch
    callers: tuple[Site, ...] = ()  # from `site` outwards, lines outside torch only
    arguments: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    elements: int = 0  # how many elements it covered
    default: bool = False  # made by the constructor of the torch.nn module that owns the tensor
    pretrained: bool = False  # copied from loaded values (load_state_dict, torch.load, from_pretrained)
    replaces: bool = True  # keeps nothing of what the elements held before
    own: bool = False  # computed from what the tensor itself held before


class Seeding(NamedTuple):
    """One call of torch.manual_seed during the build."""

    order: int  # of the last operation before it
    site: Site


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a parameter or buffer got its values.

    `unwritten` counts the elements that still hold memory nobody wrote. `allocation` is where the
    memory came from, `construction` the line that constructed the module owning the tensor.
    """

    allocator: str = "unknown"  # "torch.empty", "torch.randn", "to_empty", "external", "unknown"
    allocation: Site | None = None
    construction: Site | None = None
    writes: tuple[Write, ...] = ()
    unwritten: int = 0
    copied_from: str | None = None  # name of the tensor whose values these are (deepcopy, clone)
    outdated: str | None = None  # name of the tensor whose values these were before it was written again
    origins: tuple[Write, ...] = ()  # operations on temporaries that the last write took its values from
    flush: Write | None = None  # the conversion that turned values into zeros: `arguments["flushed"]` of them
    seeding: Seeding | None = None  # the last one before the values were drawn
    frozen: Site | None = None  # the line that set requires_grad to False; None where it was born so

    @property
    def last_write(self) -> Write | None:
        """The write that decided the values: the last one that covered any of them."""
        return self.writes[-1] if self.writes else None

    @property
    def drawn(self) -> Site | None:
        """The line of the temporary farthest back that the last write took its values from."""
        return self.origins[-1].site if self.origins else None

    @property
    def explicit(self) -> tuple[Write, ...]:
        """Writes that a line asked for: not those of constructors of torch.nn, allocations and moves."""
        return tuple(
            write
            for write in self.writes
            if not write.default
            and not write.operation.startswith("torch.")
            and not write.operation.endswith(".reset_parameters")
            and write.operation not in ("copy.deepcopy", "Tensor.clone", "Tensor.to", "external")
        )

    @property
    def site(self) -> Site | None:
        """The user's line that caused the values: the init call, else the line that made the layer."""
        last = self.last_write
        if last is not None and not last.default:
            return last.site
        return self.construction or (last.site if last else self.allocation)


@dataclass(frozen=True, slots=True)
class LostWrite:
    """An explicit initialisation that changed nothing in the final model."""

    write: Write
    reason: Literal["temporary", "parametrized", "replaced", "detached", "unused", "entry"]
    subject: str  # the parameter or module it was meant for, as far as known; else ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MemberTest:
    """A test of names, classes or attributes in an initialiser, and which members it was asked of."""

    site: Site
    text: str  # the test as written: name == "c_proj.weight"
    kind: Literal["name", "class", "attribute", "object"]
    passed: int  # how often it was true
    near: tuple[str, ...]  # parameters or modules that did not pass though it was meant for them
    detail: str = ""  # what those are: "ConvTranspose1d, not Conv1d"
    matched: tuple[str, ...] = ()  # kind "name": members whose names passed
    plain: bool = True  # the near ones were plainly meant; else they only come nearest
    caller: Site | None = None  # the line that handed in a parameter (kind "object") or what is looked for


@dataclass(frozen=True, slots=True)
class ModuleRecord:
    """One module object of the model; `paths` are all positions at which it is registered."""

    paths: tuple[str, ...]
    class_name: str  # "Linear"
    qualified_class: str  # "torch.nn.modules.linear.Linear"
    package: str | None  # installed package that defines the class, None for the user's own
    construction: Site | None = None  # the line that constructed it
    registration: Site | None = None  # the line that put it in its (first) place
    children: tuple[str, ...] = ()  # local names
    settings: Mapping[str, float | int | str | bool] = field(default_factory=dict)  # scalar attributes
    has_reset: bool = False  # its class (outside torch) defines reset_parameters or init_weights
    reset_called: bool = False
    reset_site: Site | None = None  # where that method is defined
    default_of: Site | None = None  # it is the default of an argument of the function defined there
    calls: int | None = None  # times its forward ran in one probe

    @property
    def path(self) -> str:
        """The first position; "" for the root."""
        return self.paths[0]


@dataclass(frozen=True, slots=True)
class Unregistered:
    """A module, parameter or tensor that takes part in the model but is not registered."""

    kind: Literal["module", "parameter", "buffer"]
    path: str  # attribute path: "mlps.0", "waggrs.rel.w"
    owner: str  # path of the module that holds it
    container: str  # "list", "dict", "tuple", "attribute", "object", "class", "closure", "global", "forward"
    parameters: tuple[str, ...] = ()  # tensors hidden with it
    elements: int = 0
    trainable: bool = False  # some of its tensors require a gradient
    random: bool = False  # some of its values were drawn
    scalar: bool = False  # a tensor without axes
    moved: bool = False  # its owner's code brings it to the device of the inputs
    site: Site | None = None  # where its container is made, else where it was put there, else made
    assigned: Site | None = None  # where its owner puts it in its place, or where forward leads to its making
    made: Site | None = None  # where it, or the first of its tensors, was made
    reached: bool | None = None  # took part in the probe
    persistent_state: bool = False  # the model moves or saves it itself

    @property
    def held(self) -> str:
        """What holds it, in words."""
        return {
            "list": "a plain list",
            "dict": "a plain dict",
            "tuple": "a tuple",
            "attribute": "a plain attribute",
            "object": "an object that is no module",
            "class": "the class, not the instance,",
            "closure": "a closure",
            "global": "a global variable",
        }.get(self.container, self.container)

    @property
    def remedy(self) -> str:
        """What registers it, for a module or parameter."""
        kind = {"module": "Module", "parameter": "Parameter"}.get(self.kind, "Buffer")
        if self.container in ("list", "tuple"):
            return f"nn.{kind}List in place of the {self.container}"
        if self.container == "dict":
            return f"nn.{kind}Dict in place of the dict"
        if self.kind == "parameter" and self.container == "attribute":
            return "assign an nn.Parameter that already has its final values, dtype and device"
        return f"assign the {self.kind} to an attribute of the module"

    @property
    def places(self) -> tuple[tuple[Site, str], ...]:
        """Further lines of its story, with what happened there."""
        told = ((self.assigned, "assigned here"), (self.made, "made here"))
        return tuple((site, what) for site, what in told if site is not None and site != self.site)


@dataclass(frozen=True, slots=True)
class Tie:
    """Parameters that are, or were meant to be, one object."""

    names: tuple[str, ...]
    broken: bool
    declared_by: str  # "constructor", "_tied_weights_keys", "tie_weights", "memory", "values"
    site: Site | None = None  # the line that tied, or the line that broke the tie
    tied: Site | None = None  # where a broken tie once was made
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Second builds with the same seeds: which parameters differ, and whose generator explains it."""

    differing: tuple[str, ...]
    generator: Literal["python", "numpy", "unseeded", "none"]
    reseeded: Site | None = None  # the line that gave torch's own generator another seed at each build


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
    orthogonality: float | None = (
        None  # how far W·Wᵀ of some rows (columns, if fewer) is from a multiple of I
    )
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


# ---------------------------------------------------------------- trace: how it is used


class Step(NamedTuple):
    """A function of stored values: "exp", "neg", or "mul" with the constant that it multiplies by."""

    operation: str
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Wiring:
    """What leads to a use of a tensor, and what its result is for."""

    sources: tuple[str, ...] = ()  # weights whose outputs it takes, with no weight between
    steps: tuple[Step, ...] = ()  # what is done to the stored values before they meet the data
    factor: float | None = 1.0  # constant by which the output is multiplied before its activation, if known
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
    fan_in: int | None = None
    fan_out: int | None = None
    contracted: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()  # axes that become features of the output
    stacked: tuple[int, ...] = ()  # axes over independent matrices (experts, heads)
    groups: int = 1
    transposed: bool = False  # transposed convolution
    parts: int = 1  # fused matrices along the output axis (QKV, gates), told by the split that follows
    woven: int = 1  # matrices fused head by head: rows of each follow each other within every head
    activation: str | None = None  # what follows before the next weight: "relu", "gelu", "softmax", "none"
    normalised_before: bool = False  # its input comes out of a normalisation
    normalised_after: bool = False  # its output meets a normalisation before the next weight
    ends_residual: bool = False  # its output is added to an ancestor of its input
    reaches_output: bool = False  # its output leaves the model without another weight
    lookup_too: bool = False  # used both as lookup table and as matrix
    depth: int = 0  # weights on the longest path from the input up to and including this one
    node: str = ""  # name of the consuming graph node, key into Evidence.signals
    uses: int = 1  # times it is consumed in one forward
    padding: int | None = None  # row that a lookup treats as no entry
    offset: float | None = 0.0  # number added before use, as in 1 + gain; None when changed otherwise
    wiring: Wiring = Wiring()

    @property
    def fused(self) -> int:
        """Matrices that are fused in it, one after the other or head by head."""
        return self.parts * self.woven


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
    bound: float | None = None  # largest magnitude that the scheme gives; None when unbounded
    gain: float | None = None
    fan: int | None = None
    fan_mode: str | None = None  # "fan_in", "fan_out", "fan_avg"
    text: str = ""  # as to be shown: "kaiming_uniform_(a=√5)"
    formula: str = ""  # of the std, or of the bound of a uniform: "1/√fan_in"
    mean: float = 0.0  # centre of the distribution
    reading: Literal["true", "nn.init"] | None = None  # whose fan: the traced use's, or the stored shape's
    fit: Literal["all", "bulk"] = "all"  # "bulk": fits but for single values that stand out


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
    kind: SignalKind
    shape: Shape
    depth: int  # weights on the longest path from the input to here
    site: Site | None  # user's line that ran it
    forward: Scale
    backward: Scale | None = None
    weights: tuple[str, ...] = ()  # parameters consumed directly
    sources: tuple[str, ...] = ()  # nodes of the nearest signals flowing in; a residual's stream first
    input_rms: float | None = None  # a product with a weight: rms of the data that it multiplies
    units: int = 0  # channels or features of the output
    dead_units: int = 0  # units that were zero for every observation
    observations: int = 0  # values seen per unit (batch × positions)
    saturated: float = 0.0  # fraction on the flat part of the activation
    across_inputs: float | None = None  # std over the batch / rms: 0 when outputs do not depend on the input
    independence: float = 1.0  # share of the inputs that differ in ways of their own; the rest are mixtures
    residual: bool = False  # output of a residual addition
    branch_ratio: float | None = None  # residual addition: rms of the branch / rms of the stream
    leaves: bool = False  # is an output of the model, or becomes one without another signal
    summands: tuple[tuple[str, ...], ...] = ()  # addition: the last weights behind each operand
    operands: tuple[float, float] | None = None  # addition: rms of each operand


@dataclass(frozen=True, slots=True)
class Gradient:
    """A parameter's gradient after one backward."""

    scale: Scale | None  # None: no gradient arrived
    duplicates: tuple[int, ...] = ()  # per axis: slices whose gradients equal an earlier slice's
    underflow: float = 0.0  # fraction that is zero in the probe's dtype but not in float32


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a few SGD steps on a copy made of a suspicion (equal units, zero gradient)."""

    steps: int
    zero_gradient: bool  # the gradient was exactly zero at every step
    stuck_units: int = 0  # units that were equal to another at the start and still are
    units: int = 0
    axis: int = 0


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


# ---------------------------------------------------------------- joined


@dataclass(frozen=True, slots=True)
class Tensor:
    """Everything known about one parameter or buffer of the final model."""

    name: str
    kind: Literal["parameter", "buffer"]
    shape: Shape
    dtype: str
    owner: str = ""  # path of the module that holds it
    owner_class: str = ""  # class name of that module
    owner_package: str | None = None
    aliases: tuple[str, ...] = ()  # further names of the very same object
    requires_grad: bool = True
    unread: str | None = None  # why there are no statistics
    provenance: Provenance = Provenance()
    statistics: Statistics | None = None
    padding: Padding | None = None  # of a lookup table with a padding index
    use: Use | None = None
    schemes: tuple[Scheme, ...] = ()
    gradient: Gradient | None = None
    confirmation: Confirmation | None = None
    updated: bool = False  # the probe's forward changed it
    #: of one that the probe did not reach: where the code of the classes around it speaks of it
    mention: Literal["forward", "elsewhere", "nowhere"] | None = None

    @property
    def local_name(self) -> str:
        """The last part of the name: "weight", "bias_hh_l0"."""
        return self.name.rpartition(".")[2]

    @property
    def family(self) -> str:
        """The name with every index replaced: blocks.{}.fc1.weight."""
        return re.sub(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)|(?<=\.)\d+$", "{}", self.name)

    @property
    def elements(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def scheme(self) -> Scheme | None:
        """The best fitting known initialisation."""
        return self.schemes[0] if self.schemes else None

    @property
    def gain(self) -> float:
        """Std·√fan_in, what a matrix or kernel multiplies the rms of its inputs by; 0 where unknown."""
        fan_in = self.use.fan_in if self.use is not None else None
        return self.statistics.std * sqrt(fan_in) if self.statistics is not None and fan_in else 0.0

    @property
    def site(self) -> Site | None:
        """The user's line that caused the values."""
        return self.provenance.site

    @property
    def published(self) -> bool:
        """A line of an installed package chose the values, for the sizes that the package publishes."""
        return self.site is not None and self.site.package is not None

    @property
    def drawn(self) -> bool:
        """The values come from a random generator, some of them at least; loaded values do not count.

        Where the recorder could not see (NumPy, a pointer), a distribution that fits them tells.
        """
        computed = 0  # values that were written since, one part after the other
        for write in reversed(self.provenance.writes):
            if write.pretrained:
                return False
            if write.kind == "random":
                return True
            if write.kind == "constant" or (write.kind == "transform" and not write.own):
                computed += write.elements if write.replaces else 0
            if computed >= self.elements:
                return False
        if any(origin.kind == "random" for origin in self.provenance.origins):
            return True
        unseen = not self.provenance.writes or self.provenance.writes[-1].kind in ("copy", "unknown")
        fits = self.scheme is not None and self.scheme.distribution not in ("constant", "identity", "unknown")
        return unseen and fits


@dataclass(frozen=True)
class Evidence:
    """All that rules may know about one built model."""

    model_class: str
    tensors: tuple[Tensor, ...] = ()
    modules: tuple[ModuleRecord, ...] = ()
    signals: tuple[Signal, ...] = ()
    lost_writes: tuple[LostWrite, ...] = ()
    member_tests: tuple[MemberTest, ...] = ()
    unregistered: tuple[Unregistered, ...] = ()
    created_in_forward: tuple[Unregistered, ...] = ()
    ties: tuple[Tie, ...] = ()
    rebuild: Rebuild | None = None
    logits: tuple[Logits, ...] = ()
    couplings: tuple[Coupling, ...] = ()
    build_site: Site | None = None  # the target's own line
    dtype: str = "float32"  # the probe's
    training: bool = True
    available: frozenset[str] = frozenset()  # kinds of evidence that were gathered

    @cached_property
    def parameters(self) -> tuple[Tensor, ...]:
        """Parameters, each object once."""
        return tuple(t for t in self.tensors if t.kind == "parameter")

    @cached_property
    def buffers(self) -> tuple[Tensor, ...]:
        """Buffers, each object once."""
        return tuple(t for t in self.tensors if t.kind == "buffer")

    @cached_property
    def weights(self) -> tuple[Tensor, ...]:
        """Parameters that the graph uses as matrices or kernels."""
        return tuple(
            t
            for t in self.parameters
            if t.use is not None and t.use.role in ("matrix", "kernel", "recurrent")
        )

    @cached_property
    def by_name(self) -> Mapping[str, Tensor]:
        """Tensors by any of their names."""
        return {name: t for t in self.tensors for name in (t.name, *t.aliases)}

    @cached_property
    def modules_by_path(self) -> Mapping[str, ModuleRecord]:
        """Modules by any of their positions."""
        return {path: m for m in self.modules for path in m.paths}

    @cached_property
    def signals_by_node(self) -> Mapping[str, Signal]:
        """Signals by graph node."""
        return {s.node: s for s in self.signals}

    def named(self, names: Iterable[str]) -> tuple[Tensor, ...]:
        """The tensors of these names; names of none are left out."""
        return tuple(t for name in names if (t := self.by_name.get(name)) is not None)

    def output_of(self, tensor: Tensor) -> Signal | None:
        """What comes out of the operation that uses a tensor; None where the probe did not see it."""
        return self.signals_by_node.get(tensor.use.node) if tensor.use is not None else None

    def shift_of(self, weight: Tensor) -> Tensor | None:
        """The bias that is added where a weight is applied."""
        bias = self.by_name.get(f"{weight.owner}.bias".lstrip("."))
        return bias if bias is not None and bias is not weight else None

    def families(self) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
        """Parameters whose names differ in indices only, with their common pattern."""
        groups: dict[str, list[Tensor]] = {}
        for parameter in self.parameters:
            groups.setdefault(parameter.family, []).append(parameter)
        for pattern, members in groups.items():
            yield pattern, tuple(members)
