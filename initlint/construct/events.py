"""What the recorder notes while a model is built."""

from __future__ import annotations

import weakref
from types import CodeType
from typing import Any, NamedTuple

import torch
from torch import nn

from initlint.construct.operator_effects import Operator
from initlint.source import Instruction

#: Lines outside torch that are kept for one operation, and frames looked through for them.
LINES = 6
FRAMES = 48


class Event(NamedTuple):
    """One operation that gave a storage its values, or gave birth to it."""

    order: int
    operator: Operator
    numel: int
    part: tuple[int, tuple[int, ...], tuple[int, ...]] | None  # offset, size, stride; None for the whole
    inputs: tuple[tuple[Storage, int], ...]  # storages read, each with the number of its events so far
    scalars: tuple[Any, ...]  # the operation's positional arguments, tensors left out
    default: bool  # ran inside the constructor of a torch.nn module
    called: CodeType | None  # the torch function that the user's line called; None for the operation itself
    inner: Instruction  # the instruction that ran the operation
    arguments: dict[str, Any] | None  # local scalars of the function of torch.nn.init
    lines: tuple[Instruction, ...]  # instructions outside torch, innermost first


class Storage(list[Event]):
    """A piece of memory: everything that happened to it, in order."""

    __slots__ = ("numel", "slots", "weak")

    numel: int
    slots: tuple[tuple[Module, str], ...]  # where it was registered as a parameter
    weak: int | None  # keeps the address from being used again while the record lives

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other


class Module:
    """A module that registered something, or was registered, during the build."""

    __slots__ = ("constructed", "parents", "reference", "registered")

    def __init__(self, module: nn.Module) -> None:
        self.reference = weakref.ref(module)
        self.constructed: Instruction | None = None
        self.registered: Instruction | None = None
        self.parents: list[tuple[Module, str]] = []


class Tying(NamedTuple):
    """A Parameter that was put into a second place while it was known in a first."""

    parameter: weakref.ref[torch.Tensor]
    first: tuple[Module, str]
    second: tuple[Module, str]
    line: Instruction | None
