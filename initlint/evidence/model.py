"""Everything known about one model, joined by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod, sqrt
from typing import Literal

from initlint.evidence.build import (
    LostWrite,
    MemberTest,
    ModuleRecord,
    Provenance,
    Rebuild,
    Statement,
    Tie,
    Unregistered,
)
from initlint.evidence.signals import Confirmation, Coupling, Gradient, Logits, Shape, Signal
from initlint.evidence.use import Use
from initlint.evidence.values import Padding, Scheme, Statistics
from initlint.finding import Site


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
    owner_package: str | None = None  # installed package that defines the class; None for the user's own
    aliases: tuple[str, ...] = ()  # further names of the very same object
    requires_grad: bool = True
    unread: str | None = None  # why its values cannot be read; None where they can
    provenance: Provenance = Provenance()
    statistics: Statistics | None = None  # None where `unread`, or where no rule needs any
    padding: Padding | None = None  # None but for a lookup table with a padding index
    use: Use | None = None  # None where no graph reaches it
    schemes: tuple[Scheme, ...] = ()
    gradient: Gradient | None = None  # None without a backward, and for what is not trained
    confirmation: Confirmation | None = None  # None where nothing was suspected or no step could be run
    updated: bool = False  # the probe's forward changed it
    #: where the code of the classes around it speaks of it; None unless the probe did not reach it
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

    tensors: tuple[Tensor, ...] = ()
    modules: tuple[ModuleRecord, ...] = ()
    signals: tuple[Signal, ...] = ()
    lost_writes: tuple[LostWrite, ...] = ()
    member_tests: tuple[MemberTest, ...] = ()
    unregistered: tuple[Unregistered, ...] = ()
    created_in_forward: tuple[Unregistered, ...] = ()
    ties: tuple[Tie, ...] = ()
    rebuild: Rebuild | None = None  # None where the model was not built again
    #: lines of functions that initialise modules and construct further ones afterwards
    statements: Mapping[Site, Statement] = field(default_factory=dict)
    logits: tuple[Logits, ...] = ()
    couplings: tuple[Coupling, ...] = ()
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
