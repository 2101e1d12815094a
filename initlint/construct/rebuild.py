"""Builds a model again with the same seeds, to see whether it starts the same."""

from __future__ import annotations

import random
import sys
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.construct.build import Construction, Factory, poisoned
from initlint.evidence import Rebuild
from initlint.finding import Site
from initlint.runtime import seeded, stdout_to_stderr
from initlint.source import here


# ---------------------------------------------------------------- building again
def rebuild(construction: Construction, *, seed: int) -> Rebuild | None:
    """Build again under torch's seed alone; if that differs, find out whose generator makes it so.

    None when the model cannot be built again: it existed before, or the second build fails.
    """
    if construction.build is None or not construction.recorded:
        return None
    with stdout_to_stderr(), poisoned():
        try:
            return _compared(construction.model, construction.build, seed)
        except Exception:  # a factory may well work only once
            return None


def _compared(first: nn.Module, build: Factory, seed: int) -> Rebuild:
    second, seeds = _built(build, seed, ())
    if not _differing(first, second):
        return Rebuild((), "none")
    # The first build may have imported what draws when it is imported: only later ones are compared.
    reference, others = _built(build, seed, ("python", "numpy"))
    differing = _differing(reference, second)
    if not differing:
        return Rebuild((), "none")
    changed = (site for (site, one), (_, other) in zip(seeds, others, strict=False) if one != other)
    if (reseeded := next(changed, None)) is not None:
        return Rebuild(differing, "unseeded", reseeded)
    if _differing(reference, _built(build, seed, ("python", "numpy"))[0]):
        return Rebuild(differing, "unseeded")
    numpy = not _differing(reference, _built(build, seed, ("numpy",))[0])
    return Rebuild(differing, "numpy" if numpy else "python")


def _built(
    build: Factory, seed: int, fixed: tuple[Literal["python", "numpy"], ...]
) -> tuple[nn.Module, list[tuple[Site | None, int]]]:
    """A build with torch's generator and those in `fixed` seeded; and every seed that it gave to torch."""
    seeds: list[tuple[Site | None, int]] = []
    originals = torch.manual_seed, torch.seed

    def manual_seed(seed: Any) -> torch.Generator:
        seeds.append((here(sys._getframe(1)), seed))
        return originals[0](seed)

    def new_seed() -> int:
        value = originals[1]()
        seeds.append((here(sys._getframe(1)), value))
        return value

    with seeded(seed):
        if "python" not in fixed:
            random.seed()
        if "numpy" not in fixed and (numpy := sys.modules.get("numpy")):
            numpy.random.seed()
        torch.manual_seed, torch.seed = manual_seed, new_seed
        try:
            return build(), seeds
        finally:
            torch.manual_seed, torch.seed = originals


def _differing(first: nn.Module, second: nn.Module) -> tuple[str, ...]:
    """Names of parameters and buffers whose values are not bit for bit the same."""
    other = dict(second.named_parameters()) | dict(second.named_buffers())
    return tuple(
        name
        for name, tensor in (*first.named_parameters(), *first.named_buffers())
        if name in other and not _same(tensor, other[name])
    )


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    if is_lazy(first) or is_lazy(second) or first.is_meta or second.is_meta:
        return True
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    with torch.no_grad():
        a, b = first.detach().cpu(), second.detach().cpu()
        try:
            return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())
        except (NotImplementedError, RuntimeError):  # no comparison for this layout or dtype
            return True
