"""Generators of Python, NumPy and torch: seeded for a while, and restored."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the global generators start from `seed`; afterwards they are where they were."""
    restore = generator_states()
    try:
        seed_generators(seed)
        yield
    finally:
        restore()


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python, torch and, where it is imported, NumPy.

    For a body whose end restores them anyway: inside `seeded`, `preserved` or `snapshot`.
    """
    random.seed(seed)
    torch.manual_seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed % 2**32)


def generator_states() -> Callable[[], None]:
    """A function that puts the global generators, those of devices included, back to their present state."""
    restores: list[Callable[[], object]] = [
        partial(random.setstate, random.getstate()),
        partial(torch.set_rng_state, torch.get_rng_state()),
    ]
    if (numpy := sys.modules.get("numpy")) is not None:
        restores.append(partial(numpy.random.set_state, numpy.random.get_state()))
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        restores.append(partial(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    if torch.backends.mps.is_available():
        restores.append(partial(torch.mps.set_rng_state, torch.mps.get_rng_state()))

    def restore() -> None:
        for put_back in restores:
            put_back()

    return restore
