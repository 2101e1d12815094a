"""What initialisers ask while a model is built, and which members their tests miss."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from torch import nn

from initlint.construct.build import construct
from initlint.evidence.build import MemberTest, Miss


def asked(build: Callable[[], nn.Module]) -> tuple[MemberTest, ...]:
    return construct(lambda: build, seed=0).member_tests


def body() -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)))


def init_by_spelled_class(module: nn.Module) -> None:
    classname = module.__class__.__name__
    if classname.find("conv") != -1:
        nn.init.zeros_(module.get_parameter("weight"))


def init_children() -> nn.Module:
    model = body()
    for module in model.children():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
    return model


def init_by_comprehension() -> nn.Module:
    model = body()
    for parameter in [p for n, p in model.named_parameters() if n == "0.Weight"]:
        nn.init.zeros_(parameter)
    return model


SUFFIXES = ("0.Weight", "2.Weight")


def init_by_suffixes() -> nn.Module:
    model = body()
    for name, parameter in model.named_parameters():
        if name.endswith(SUFFIXES):
            nn.init.zeros_(parameter)
    return model


def init_by_kind(module: nn.Module, kind: str) -> None:
    classname = type(module).__name__
    if classname.find(kind) != -1:
        nn.init.zeros_(module.get_parameter("weight"))


class Projecting(nn.Module):
    prefix = "proj_out"
    flag = "SCALE_INITIAL"

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.ModuleDict({"out": nn.Linear(8, 8)})
        vars(self.proj["out"])["SCALE_INIT"] = True

    def by_prefix(self) -> nn.Module:
        for name, parameter in self.named_parameters():
            factor = 1.0
            if name.startswith(self.prefix):
                factor = 0.1
            std = 0.02 * factor
            nn.init.normal_(parameter, std=std)
        return self

    def by_flag(self) -> nn.Module:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                std = 0.002 if hasattr(module, self.flag) else 0.02
                nn.init.normal_(module.weight, std=std)
        return self


def init_under_a_condition(wanted: bool = False) -> nn.Module:
    model = body()
    if wanted:
        for name, parameter in model.named_parameters():
            if name == "weight":
                nn.init.zeros_(parameter)
    return model


def test_class_spelled_otherwise() -> None:
    (test,) = asked(lambda: body().apply(init_by_spelled_class))
    assert (test.kind, test.passed, test.near) == ("class", 0, ("0",))


def test_loop_that_does_not_descend() -> None:
    (test,) = asked(init_children)
    assert test.near == ("2.0", "2.1")


def test_comprehension() -> None:
    (test,) = asked(init_by_comprehension)
    assert test.near == ("0.weight", "2.0.weight")


def test_strings_held_by_a_variable() -> None:
    (test,) = asked(init_by_suffixes)
    assert (test.passed, test.near) == (0, ("0.weight", "2.0.weight"))
    (test,) = asked(lambda: body().apply(lambda module: init_by_kind(module, "linear")))
    assert (test.kind, test.near) == ("class", ("2.0", "2.1"))
    assert (test.wanted, test.literal) == (("linear",), False)
    assert test.caller is not None


def test_strings_held_by_an_attribute() -> None:
    (test,) = asked(lambda: Projecting().by_prefix())
    assert (test.kind, test.passed, test.near) == ("name", 0, ("proj.out.weight", "proj.out.bias"))
    (flag,) = asked(lambda: Projecting().by_flag())
    assert (flag.kind, flag.passed, flag.near) == ("attribute", 0, ("proj.out",))
    assert flag.missed[0] == Miss("proj.out", "attribute", "SCALE_INIT", 1.0)


def test_a_test_that_is_not_reached_tells_nothing() -> None:
    assert asked(init_under_a_condition) == ()


def test_names_that_pass_are_kept() -> None:
    def build() -> nn.Module:
        model = body()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
        return model

    (test,) = asked(build)
    assert test.passed == 3
    assert set(test.matched) == {"0.bias", "2.0.bias", "2.1.bias"}


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer is at work")
def test_tracing_ends_with_the_build() -> None:
    asked(init_children)
    assert sys.gettrace() is None


def test_another_tracer_is_left_alone() -> None:
    before = sys.gettrace()
    mine = lambda *_: None  # noqa: E731
    sys.settrace(mine)
    try:
        assert asked(init_children) == ()
        assert sys.gettrace() is mine
    finally:
        sys.settrace(before)
