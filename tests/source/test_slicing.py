"""The lines that the arguments of an init call come from."""

from __future__ import annotations

import linecache
from collections.abc import Callable

import pytest
import torch
from torch import nn

from initlint.construct.build import construct
from initlint.source.slicing import slice_of_test, slice_of_write

WIDE = 3.0  # module


class Config:
    spread = 3.0  # config


class Layer(nn.Module):
    scale = 3.0  # class

    def __init__(self, std: float = 3.0) -> None:  # default
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, 4))
        self.offset, self.std = 0.0, std  # attribute
        self.reset()

    def reset(self) -> None:
        nn.init.normal_(self.weight, std=1.0)

    def width(self) -> float:
        return self.scale / 2  # method


class ByMethod(Layer):
    def reset(self) -> None:
        nn.init.normal_(self.weight, std=self.width())


class ByAttribute(Layer):
    def reset(self) -> None:
        self.weight.data.normal_(0, self.std)


class ByConstant(Layer):
    def reset(self) -> None:
        self.weight.data = torch.randn(4, 4) * WIDE


class ByConfig(Layer):
    config = Config()

    def reset(self) -> None:
        nn.init.normal_(self.weight, std=self.config.spread)


class ByVariable(Layer):
    def reset(self) -> None:
        fan = self.weight.shape[0]  # variable
        nn.init.normal_(self.weight, std=2.0 / fan)


class ByLoop(Layer):
    def reset(self) -> None:
        for weight, std in ((self.weight, 1.0), (self.weight, WIDE)):  # loop
            nn.init.normal_(weight, std=std)


class ByCall(Layer):
    def reset(self) -> None:
        self.draw(3.0)  # call

    def draw(self, std: float) -> None:
        nn.init.normal_(self.weight, std=std)


class ByMapping(Layer):
    def reset(self) -> None:
        scales = {self.weight: WIDE}  # mapping
        for weight, std in scales.items():
            nn.init.normal_(weight, std=std)


class ByChoice(Layer):
    def reset(self) -> None:
        for layer in self.wide():
            nn.init.normal_(layer.weight, std=9.0)

    def wide(self) -> list[Layer]:
        return [self]  # choice


def drawing(std: float) -> Callable[[torch.Tensor], None]:
    def draw(weight: torch.Tensor) -> None:
        nn.init.normal_(weight, std=std)

    return draw


class ByClosure(Layer):
    def reset(self) -> None:
        drawing(3.0)(self.weight)  # closure


def twice(size: int) -> float:
    return 2.0 * size  # function


class ByFunction(Layer):
    def reset(self, scale: Callable[[int], float] = twice) -> None:  # argument
        nn.init.normal_(self.weight, std=scale(4))


class Overridden(ByMethod):
    scale = 4.0  # override


def passed() -> nn.Module:
    return ByAttribute(std=3.0)  # passed


@pytest.mark.parametrize(
    ("build", "marks"),
    [
        (Layer, []),
        (ByMethod, ["method", "class"]),
        (Overridden, ["method", "override"]),
        (ByAttribute, ["attribute", "default"]),
        (passed, ["attribute", "passed"]),
        (ByConstant, ["module"]),
        (ByConfig, ["config"]),
        (ByVariable, ["variable"]),
        (ByLoop, ["loop", "module"]),
        (ByCall, ["call"]),
        (ByMapping, ["mapping", "module"]),
        (ByChoice, ["choice"]),
        (ByClosure, ["closure"]),
        (ByFunction, ["argument", "function"]),
    ],
)
def test_lines_behind(build: Callable[[], nn.Module], marks: list[str]) -> None:
    built = construct(lambda: build, seed=0)
    classes = tuple(type(module) for module in built.model.modules())
    places = list(slice_of_write(built.provenance["weight"], classes))
    found = [linecache.getline(p.site.file, p.site.line).rpartition("# ")[2].strip() for p in places]
    assert found == marks


NAMES = ("Weight", "Gain")  # names


class ByName(Layer):
    def reset(self) -> None:
        for name, parameter in self.named_parameters():
            if any(part in name for part in NAMES):
                nn.init.zeros_(parameter)


def test_lines_behind_a_test() -> None:
    (test,) = construct(lambda: ByName, seed=0).member_tests
    (place,) = {place.site: place for place in slice_of_test(test)}.values()
    assert linecache.getline(place.site.file, place.site.line).endswith("# names\n")
