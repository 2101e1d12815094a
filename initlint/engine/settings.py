"""How a model is probed, and how long each stage takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

Loss = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is probed. `dtype` None keeps the model's own."""

    device: str = "cpu"
    dtype: str | None = None
    seed: int = 0
    probe: bool = True
    input_shape: str | None = None


@dataclass
class Clock:
    """Seconds spent in each stage; tells `enter` which stage is starting."""

    enter: Callable[[str], None] = lambda stage: None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        self.enter(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
