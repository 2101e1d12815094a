"""Everything known about one model, joined by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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

WEIGHT_ROLES = frozenset({"matrix", "kernel", "recurrent"})


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


@dataclass(frozen=True, slots=True)
class UsedTensor(Tensor):
    """A tensor that the graph uses and whose values were read."""

    statistics: Statistics = field(kw_only=True)
    use: Use = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Weight(UsedTensor):
    """A parameter that the graph uses as a matrix or kernel, and whose values were read."""

    @property
    def gain(self) -> float:
        """Std·√fan_in, what it multiplies the rms of its inputs by; 0 where the fan-in is unknown."""
        return self.statistics.std * sqrt(self.use.fan_in or 0)


def record_class(
    kind: Literal["parameter", "buffer"], use: Use | None, statistics: Statistics | None
) -> type[Tensor]:
    """The record that holds what is known of a tensor."""
    if use is None or statistics is None:
        return Tensor
    return Weight if kind == "parameter" and use.role in WEIGHT_ROLES else UsedTensor


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
    def used_parameters(self) -> tuple[UsedTensor, ...]:
        """Parameters that the graph uses and whose values were read."""
        return tuple(t for t in self.parameters if isinstance(t, UsedTensor))

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        """Parameters that the graph uses as matrices or kernels and whose values were read."""
        return tuple(t for t in self.parameters if isinstance(t, Weight))

    @cached_property
    def unseen(self) -> tuple[Tensor, ...]:
        """Parameters that the graph uses as matrices or kernels, but whose values could not be read."""
        return tuple(
            t
            for t in self.parameters
            if t.statistics is None and t.use is not None and t.use.role in WEIGHT_ROLES
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

    def bias_of(self, weight: UsedTensor) -> UsedTensor | None:
        """The bias that is added to the outputs of a weight or gain."""
        return self._used(weight.use.bias)

    def weight_of(self, bias: UsedTensor) -> UsedTensor | None:
        """The weight or gain whose outputs a bias is added to."""
        return self._used(bias.use.weight)

    def _used(self, name: str | None) -> UsedTensor | None:
        tensor = self.by_name.get(name or "")
        return tensor if isinstance(tensor, UsedTensor) else None
