"""Watches what torch's dispatcher never sees: which lines seed torch's generator."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

from initlint.sites import Instruction


class Seedings:
    """Context manager: every call of torch.manual_seed, with the lines outside torch, innermost first."""

    def __init__(
        self, lines: Callable[[FrameType | None], tuple[Instruction, ...]], order: Callable[[], int]
    ) -> None:
        self.lines = lines
        self.order = order  # how many operations were seen so far
        self.calls: list[tuple[int, tuple[Instruction, ...]]] = []
        self._seed: Any = torch.manual_seed

    def __enter__(self) -> Seedings:
        seed = self._seed = torch.manual_seed

        @functools.wraps(seed)
        def noted(*args: Any, **kwargs: Any) -> torch.Generator:
            self.calls.append((self.order(), self.lines(sys._getframe(1))))
            return seed(*args, **kwargs)

        torch.manual_seed = torch.random.manual_seed = noted
        return self

    def __exit__(self, *details: object) -> None:
        torch.manual_seed = torch.random.manual_seed = self._seed
