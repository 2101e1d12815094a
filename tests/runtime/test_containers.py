"""Walks over nested containers: what is found, in which order, and that they end."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from initlint.runtime import drained, leaves, mapped, operands

Pair = namedtuple("Pair", ["a", "b"])


class Output(OrderedDict[str, Any]):
    """A dict with attributes, as transformers returns it."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("not on an output")


class Holder:
    def __init__(self) -> None:
        self.items = [torch.zeros(1), {"x": torch.zeros(2)}]
        self.myself = self


@dataclass
class Record:
    value: torch.Tensor
    name: str = "record"


def sizes(value: object, **options: Any) -> list[int]:
    return [tensor.numel() for tensor in leaves(value, **options)]


def test_leaves_of_any_nest_in_order_and_once() -> None:
    shared = torch.zeros(3)
    assert sizes((Holder(), shared, [shared], None, "text", 3)) == [1, 2, 3]
    assert sizes({"a": {torch.zeros(4)}, "b": Record(torch.zeros(5)), "c": torch.zeros}) == [4, 5]


def test_leaves_without_what_is_left_out() -> None:
    output = Holder()
    output.items[1] = {"x": torch.zeros(2), "mems": [torch.zeros(7)]}
    assert sizes({"cache": torch.zeros(9), "rest": output}, without={"cache", "mems"}) == [1, 2]


def test_walks_of_cyclic_and_deep_containers_end() -> None:
    cyclic: list[Any] = [torch.zeros(1)]
    cyclic.append(cyclic)
    deep: Any = torch.zeros(2)
    for _ in range(5000):
        deep = [deep]
    assert sizes([cyclic, deep]) == [1]
    assert float(mapped([cyclic, deep], lambda t: t + 1)[0][0]) == 1


def test_a_generator_is_drained_and_may_be_endless() -> None:
    def endless() -> Any:
        while True:
            yield torch.zeros(1)

    assert len(sizes(drained(endless()))) > 1
    assert drained([1]) == [1]


def test_operands_count_each_time_they_stand_there() -> None:
    x, y = torch.zeros(1), torch.zeros(2)
    assert list(map(len, operands((x, [y, (x, 3)], {"out": y}), torch.Tensor))) == [1, 2, 1, 2]
    assert list(operands([1, "a", (2,)], int)) == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        [torch.zeros(1)],
        (torch.zeros(1),),
        Pair(torch.zeros(1), 2),
        {torch.zeros(1)},
        {"x": torch.zeros(1)},
        OrderedDict(x=torch.zeros(1)),
        Output(x=torch.zeros(1)),
        UserDict(x=torch.zeros(1)),
        [(Pair([torch.zeros(1)], None), {"x": "text"})],
    ],
)
def test_mapped_keeps_the_containers_and_leaves_the_original_alone(value: Any) -> None:
    changed = mapped(value, lambda tensor: tensor + 1)
    assert type(changed) is type(value)
    assert [float(tensor) for tensor in leaves(changed)] == [1.0]
    assert [float(tensor) for tensor in leaves(value)] == [0.0]


def test_mapped_of_another_kind() -> None:
    made = mapped({"x": [np.ones(2), 3]}, torch.from_numpy, np.ndarray)
    assert made["x"][0].dtype is torch.float64
    assert made["x"][1] == 3
    assert mapped([1, "a", None], lambda item: item == 1, object) == [True, False, False]
    fixed = MappingProxyType({"x": 1})
    assert mapped([fixed], lambda item: item + 1, int)[0] is fixed
