"""Which stored tensors share memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

Geometry = tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype]  # offset, sizes, strides, dtype


class Memory:
    """One storage: the node that stands for each view of it, and the writes so far in order.

    Holds a weak reference so that the address is not given to another storage meanwhile.
    """

    __slots__ = ("_weak", "nodes", "writes")

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._weak = storage._weak_ref()
        # What stands for a view, and how many of the writes it has seen: a node, the name of a tensor
        # that has no get_attr yet, or (node, index, dtype) of an output that has no getitem yet.
        self.nodes: dict[Geometry, tuple[Any, int]] = {}
        self.writes: list[tuple[fx.Node, Geometry]] = []

    def __del__(self) -> None:
        torch.UntypedStorage._free_weak_ref(self._weak)  # type: ignore[no-untyped-call]
