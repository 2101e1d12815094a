"""Generators of torch, NumPy and Python: seeded for a while, and restored."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def generators() -> Iterator[None]:
    """Leave the global generators of Python, NumPy and torch as they were."""
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    legacy = numpy.random.get_state() if numpy else None
    cuda: Any = torch.cuda
    devices = list(range(cuda.device_count())) if cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        if numpy and legacy is not None:
            numpy.random.set_state(legacy)


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python, torch and, where it is imported, NumPy."""
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy:
        numpy.random.seed(seed % 2**32)
