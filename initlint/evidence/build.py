"""Who wrote the values: records of one build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from initlint.finding import Site

# ---------------------------------------------------------------- construct: who wrote the values
#: How values came into a tensor.
Via = Literal[
    "constructor",  # of the torch.nn module that owns it
    "reset",  # reset_parameters of such a module, run once more
    "initialiser",  # torch.nn.init or a stand-in for it, or an in-place draw or fill: Tensor.normal_
    "arithmetic",  # any other operation in place: Tensor.mul_
    "assignment",  # of some of the elements: Tensor.__setitem__, Tensor.index_copy_
    "copy",  # Tensor.copy_
    "load",  # load_state_dict
    "method",  # another function of torch.nn
    "allocation",  # with its memory, as a result of any kind: torch.randn, torch.tensor, torch.mul
    "clone",  # with its memory, as another tensor's values: Tensor.clone, copy.deepcopy, Tensor.to
    "unseen",  # in a way that the recorder did not see: a pointer, NumPy
]


@dataclass(frozen=True, slots=True)
class Write:
    """One write to the values of a tensor, seen while the model was built."""

    order: int  # position among all writes of the build
    operation: str  # for people, as a user spells it: "nn.init.zeros_", "Tensor.normal_", "load_state_dict"
    function: str  # its plain name: "zeros_", "normal_", "load_state_dict"
    via: Via
    kind: Literal["random", "constant", "copy", "transform", "unknown"]
    site: Site  # the innermost line outside torch
    callers: tuple[Site, ...] = ()  # from `site` outwards, lines outside torch only
    arguments: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    elements: int = 0  # how many elements it covered
    pretrained: bool = False  # copied from loaded values (load_state_dict, torch.load, from_pretrained)
    replaces: bool = True  # keeps nothing of what the elements held before
    own: bool = False  # computed from what the tensor itself held before
    literal: frozenset[float] = frozenset()  # numbers asked for that stand as such in a file on the way

    @property
    def default(self) -> bool:
        """The constructor of the torch.nn module that owns the tensor made it."""
        return self.via == "constructor"

    @property
    def restores(self) -> bool:
        """It put stored values in place: pretrained ones, or a state dict of this build."""
        return self.pretrained or self.via == "load"


class Statement(NamedTuple):
    """What the statement at a line does with local names."""

    extends: str | None = None  # whose attribute or entry it sets: `model` of `model.head = …`; else None
    works_on: frozenset[str] = frozenset()  # what it calls methods of or hands on: `model.apply(f)`


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

    allocator: str = "unknown"  # for people: "torch.empty", "Module.to_empty", "external", "unknown"
    emptied: bool = False  # Module.to_empty gave it other memory
    allocation: Site | None = None
    construction: Site | None = None
    writes: tuple[Write, ...] = ()
    unwritten: int = 0
    copied_from: str | None = None  # the tensor whose values these are (deepcopy, clone); None if their own
    outdated: str | None = None  # the tensor whose values these were until it was written again; else None
    origins: tuple[Write, ...] = ()  # operations on temporaries that the last write took its values from
    #: the conversion that turned values into zeros, `arguments["flushed"]` of them; None where none did
    flush: Write | None = None
    seeding: Seeding | None = None  # the last one before the values were drawn; None where there was none
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
        implicit = ("constructor", "reset", "allocation", "clone", "unseen")
        return tuple(write for write in self.writes if write.via not in implicit)

    @property
    def loaded(self) -> bool:
        """Some of the values were loaded from a file."""
        return any(write.pretrained for write in self.writes)

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
    source: str = ""  # operation that made the temporary; tensor that is recomputed from its parametrization
    end: Literal["dropped", "rebound", "unread"] | None = None  # what became of an unused result; else None


class Miss(NamedTuple):
    """A parameter or module that did not pass a test, and what brings it near to what the test looks for."""

    member: str
    #: "name": its name, or the end of it, is the string but for case and separators; "part": a part of its
    #: name is spelled like a part of the string; "class": its class is of the family; "spelling": the class
    #: is the one, spelled otherwise; "unasked": only a module that holds it was asked; "attribute": it has
    #: one spelled like the one looked for; "handed": a parameter was handed in where a module is looked for
    relation: Literal["name", "part", "class", "spelling", "unasked", "attribute", "handed"]
    found: str = ""  # the name, class or attribute that it has
    similarity: float = 1.0  # of the two spellings, difflib's ratio; 1 where one holds the other


@dataclass(frozen=True, slots=True)
class MemberTest:
    """A test of names, classes or attributes in an initialiser, and which members it was asked of."""

    site: Site
    text: str  # the test as written: name == "c_proj.weight"
    kind: Literal["name", "class", "attribute", "object"]
    passed: int  # how often it was true
    missed: tuple[Miss, ...]
    wanted: tuple[str, ...] = ()  # strings it looks for, names of classes or of an attribute
    names: int = 0  # how many names it was asked of
    matched: tuple[str, ...] = ()  # kind "name": members whose names passed
    caller: Site | None = None  # the line that handed in a parameter (kind "object") or what is looked for

    @property
    def near(self) -> tuple[str, ...]:
        """The members that it missed."""
        return tuple(miss.member for miss in self.missed)

    @property
    def literal(self) -> bool:
        """It spells what it looks for itself."""
        return self.kind == "attribute" or any(wanted in self.text for wanted in self.wanted)


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
    sigmoid: bool = False  # the file that constructs it speaks of sigmoids, or of losses with one inside
    calls: int | None = None  # times its forward ran in one probe; None without a probe

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
    reached: bool | None = None  # took part in the probe; None without a probe
    persistent_state: bool = False  # the model moves or saves it itself


@dataclass(frozen=True, slots=True)
class Tie:
    """Parameters that are, or were meant to be, one object."""

    names: tuple[str, ...]
    broken: bool
    declared_by: str  # "constructor", "_tied_weights_keys", "tie_weights", "memory", "values"
    site: Site | None = None  # the line that tied, or the line that broke the tie
    tied: Site | None = None  # where a broken tie once was made


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Second builds with the same seeds: which parameters differ, and whose generator explains it."""

    differing: tuple[str, ...]
    generator: Literal["python", "numpy", "unseeded", "none"]
    reseeded: Site | None = None  # the line that gave torch's own generator another seed at each build
