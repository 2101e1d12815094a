"""The texts of errors that a search for inputs rests on, raised by torch itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initlint.inputs.messages import DIMENSION, FLAG, KIND, NONE, NUMBER, RANK, SIZE, Message

X = torch.randn(2, 3)
IDS = torch.zeros(2, 3, dtype=torch.int64)
WIDE = torch.randn(2, 4, 6, 6)

RAISED: list[tuple[Message, Callable[[], object]]] = [
    (KIND, lambda: nn.Linear(3, 2)(IDS)),
    (KIND, lambda: nn.Linear(3, 2)(X.double())),
    (KIND, lambda: nn.Linear(3, 2)(X.half())),
    (KIND, lambda: nn.Embedding(5, 2)(X)),
    (KIND, lambda: X[X]),
    (KIND, lambda: ~X),
    (KIND, lambda: X & X),
    (KIND, lambda: X.masked_fill(IDS, 0.0)),
    (KIND, lambda: IDS.softmax(-1)),
    (KIND, lambda: IDS.mean()),
    (KIND, lambda: F.cross_entropy(X, IDS[0, :2].int())),
    (SIZE, lambda: X + torch.randn(2, 4)),
    (SIZE, lambda: X.view(2, 5)),
    (SIZE, lambda: X @ torch.randn(4, 2)),
    (SIZE, lambda: F.mse_loss(X, torch.randn(2, 4))),
    (DIMENSION, lambda: X.transpose(1, 2)),
    (DIMENSION, lambda: X.sum(2)),
    (DIMENSION, lambda: X.size(-3)),
    (RANK, lambda: nn.BatchNorm2d(4)(X)),
    (RANK, lambda: nn.BatchNorm3d(4)(X)),
    (RANK, lambda: nn.Conv2d(3, 2, 1)(X)),
    (FLAG, lambda: bool(X > 0)),
    (NUMBER, lambda: range(X)),
    (NUMBER, lambda: [1][X.long()]),
    (NUMBER, lambda: math.sqrt(X)),
    (NUMBER, lambda: float(X)),
    (NUMBER, lambda: X + "x"),  # type: ignore[operator]
    (NONE, lambda: X + None),  # type: ignore[operator]
    (NONE, lambda: len(None)),  # type: ignore[arg-type]
    (NONE, lambda: None @ X),  # type: ignore[operator]
]


@pytest.mark.parametrize(("message", "call"), RAISED, ids=map(str, range(len(RAISED))))
def test_torch_still_says_so(message: Message, call: Callable[[], object]) -> None:
    with pytest.raises(Exception, match=r".") as raised:
        call()
    assert message.match(raised.value), str(raised.value)


def test_numbers_are_read_from_the_text() -> None:
    for message, call, number in (
        (DIMENSION, lambda: X.transpose(1, 2), "2"),
        (DIMENSION, lambda: X.size(-3), "-3"),
        (RANK, lambda: nn.BatchNorm2d(4)(X), "4"),
        (RANK, lambda: nn.BatchNorm3d(4)(X), "5"),
    ):
        with pytest.raises(Exception, match="xpected") as raised:
            call()
        found = message.match(raised.value)
        assert found is not None
        assert found[1] == number


def test_what_is_no_such_error_does_not_match() -> None:
    errors = (FileNotFoundError("weights.pt"), KeyError("mask"), ZeroDivisionError("division by zero"))
    messages = (KIND, SIZE, DIMENSION, RANK, FLAG, NUMBER, NONE)
    assert not [(m, e) for m in messages for e in errors if m.match(e)]
