"""What the dispatcher never sees while a model is built: attributes set, generators seeded."""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import nn

from initlint.source import Instruction

_Tensor: Any = torch.Tensor
_NAMES = ("requires_grad", "requires_grad_", "data")


class Attributes:
    """Context manager: which line froze a parameter, and which gave it the memory of another."""

    def __init__(
        self,
        line: Callable[[FrameType | None], Instruction | None],
        owned: Callable[[torch.Tensor, torch.Tensor], bool],
    ) -> None:
        self.line = line
        self.owned = owned  # (parameter, value): the value is in another parameter's memory
        self._frozen: dict[int, tuple[weakref.ref[torch.Tensor], Instruction | None]] = {}
        self._lent: dict[int, tuple[weakref.ref[torch.Tensor], Instruction | None]] = {}
        self._before: dict[str, Any] = {}

    def frozen(self, tensor: torch.Tensor) -> Instruction | None:
        """The line that set requires_grad to False; None if none did, or another set it back."""
        return _found(self._frozen, tensor)

    def lent(self, tensor: torch.Tensor) -> Instruction | None:
        """The line that gave the parameter the memory of another."""
        return _found(self._lent, tensor)

    def __enter__(self) -> Attributes:
        cls: Any = nn.Parameter
        self._before = {name: vars(cls)[name] for name in _NAMES if name in vars(cls)}
        grad, data, call = _Tensor.requires_grad, _Tensor.data, _Tensor.requires_grad_

        def freeze(tensor: torch.Tensor, value: bool) -> None:
            grad.__set__(tensor, value)
            self._note(tensor, value, sys._getframe(1))

        def freeze_(tensor: torch.Tensor, requires_grad: bool = True) -> Any:
            result = call(tensor, requires_grad)
            self._note(tensor, requires_grad, sys._getframe(1))
            return result

        def replace(tensor: torch.Tensor, value: torch.Tensor) -> None:
            if isinstance(value, torch.Tensor) and self.owned(tensor, value):
                self.lend(tensor, sys._getframe(1))
            data.__set__(tensor, value)

        cls.requires_grad = property(grad.__get__, freeze)
        cls.requires_grad_ = freeze_
        cls.data = property(data.__get__, replace)
        return self

    def __exit__(self, *details: object) -> None:
        cls: Any = nn.Parameter
        for name in _NAMES:
            if name in self._before:
                setattr(cls, name, self._before[name])
            elif name in vars(cls):
                delattr(cls, name)

    def lend(self, tensor: torch.Tensor, frame: FrameType) -> None:
        """Note that the parameter was given the memory of another at this frame."""
        self._lent[id(tensor)] = weakref.ref(tensor), self.line(frame)

    def _note(self, tensor: torch.Tensor, requires_grad: bool, frame: FrameType) -> None:
        if requires_grad:
            self._frozen.pop(id(tensor), None)
        else:
            self._frozen[id(tensor)] = weakref.ref(tensor), self.line(frame)


def _found(
    lines: dict[int, tuple[weakref.ref[torch.Tensor], Instruction | None]], tensor: torch.Tensor
) -> Instruction | None:
    found = lines.get(id(tensor))
    return found[1] if found is not None and found[0]() is tensor else None


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
