"""Buffers that a training forward updates by itself, and whether those that belong together agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from math import inf

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.evidence import Coupling

LARGEST = 1 << 18  # values of a tensor that is watched
MEMBERS = 8  # watched tensors of one module that are tried together
AGREES = 1e-2  # relative distance at which means are those of sums and counts (counts may be smoothed)


@dataclass(slots=True)
class BufferWatch:
    """A model before its forward; asked again after it."""

    model: nn.Module
    before: dict[str, torch.Tensor] = field(default_factory=dict)
    flags: dict[str, tuple[bool, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tensor in _watched(self.model):
            self.before[name] = tensor.detach().clone()
        self.flags = {path: _flags(module) for path, module in nn.Module.named_modules(self.model)}

    def updated(self) -> frozenset[str]:
        """Buffers that the forward has changed."""
        return frozenset(
            name
            for name, tensor in _watched(self.model)
            if name in self.before and not _is_same(tensor.detach(), self.before[name])
        )

    def couplings(self) -> tuple[Coupling, ...]:
        """Sums, counts and means of one module that the forward has brought to agree."""
        after = {name: tensor.detach() for name, tensor in _watched(self.model) if name in self.before}
        owners: dict[str, list[str]] = {}
        for name in self.updated():
            owners.setdefault(name.rpartition(".")[0], []).append(name)
        found = []
        for path, names in owners.items():
            if 3 <= len(names) <= MEMBERS and not self._is_started(path, names, after):
                found += [c for trio in permutations(sorted(names), 3) if (c := self._coupling(*trio, after))]
        return tuple(found)

    def _is_started(self, path: str, names: list[str], after: dict[str, torch.Tensor]) -> bool:
        """The first forward initialises this module: a flag of it was raised."""
        if _flags(self.model.get_submodule(path)) != self.flags.get(path):
            return True
        single = [n for n in names if after[n].numel() == 1 and not n.endswith("num_batches_tracked")]
        return any(not self.before[n].any() and bool((after[n] == 1).all()) for n in single)

    def _coupling(
        self, counts: str, sums: str, means: str, after: dict[str, torch.Tensor]
    ) -> Coupling | None:
        kinds = [after[name] for name in (counts, sums, means)]
        if kinds[1].shape != kinds[2].shape or not all(t.is_floating_point() for t in kinds):
            return None
        for axis in _axes(kinds[0], kinds[1]):
            now = _distance(kinds[0], kinds[1], kinds[2], axis)
            start = [
                self.before[name].to(t.device) for name, t in zip((counts, sums, means), kinds, strict=True)
            ]
            then = _distance(start[0], start[1], start[2], axis)
            if now is not None and then is not None and now < AGREES:
                norms = [float(t.norm()) for t in (start[2], kinds[2])]
                return Coupling(counts, sums, means, then, norms[1] / norms[0] if norms[0] else inf)
        return None


def _watched(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in nn.Module.named_buffers(model):
        if is_lazy(tensor) or tensor.is_meta or tensor.layout is not torch.strided:
            continue
        if 0 < tensor.numel() <= LARGEST:
            yield name, tensor


def _flags(module: nn.Module) -> tuple[bool, ...]:
    return tuple(value for name, value in vars(module).items() if type(value) is bool and name != "training")


def _is_same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first.to(second.device), second)


def _axes(counts: torch.Tensor, sums: torch.Tensor) -> list[int]:
    """Axes of the sums that the counts lack."""
    if counts.dim() != sums.dim() - 1:
        return []
    shape = tuple(sums.shape)
    return [axis for axis in range(len(shape)) if shape[:axis] + shape[axis + 1 :] == tuple(counts.shape)]


def _distance(counts: torch.Tensor, sums: torch.Tensor, means: torch.Tensor, axis: int) -> float | None:
    """Relative distance of the means from sums / counts where anything was counted; None without values."""
    counted = counts > 1e-3 * counts.abs().max()
    if not counted.any():
        return inf if sums.any() else None
    here = counted.unsqueeze(axis)
    implied = torch.where(here, sums, 0) / torch.where(counted, counts, 1).unsqueeze(axis)
    kept = torch.where(here, means, 0)
    size = float(kept.norm())
    return float((implied - kept).norm()) / size if size else None
