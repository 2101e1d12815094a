"""Lazy layers get the shapes of the first forward, and are judged like any others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

import initlint
from initlint.report.records import TargetReport


def lint(build: Callable[[], nn.Module], inputs: Any = None, **how: Any) -> TargetReport:
    (target,) = initlint.check(build, inputs, **how).targets
    return target


def images() -> nn.Module:
    return nn.Sequential(
        nn.LazyConv2d(8, 3, bias=False), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)
    )


class Branches(nn.Module):
    """Only the first branch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.LazyLinear(8), nn.LazyLinear(8), nn.Linear(8, 3)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.first(x).relu())


class Unwritten(LazyModuleMixin, nn.Module):
    """Takes its shape from its input, and no values."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.UninitializedParameter()

    def initialize_parameters(self, x: Tensor) -> None:
        with torch.no_grad():
            self.weight.materialize((x.shape[-1], 8))

    def forward(self, x: Tensor) -> Any:
        return x @ self.weight


@pytest.mark.parametrize("inputs", [None, torch.randn(4, 3, 12, 12)], ids=["inferred", "given"])
def test_lazy_layers_are_judged(inputs: Tensor | None) -> None:
    found = lint(images, inputs)
    assert (found.status, found.findings, found.not_run, found.trace) == ("ok", (), (), "recorded")
    shapes = {tensor.name: tensor.shape for tensor in found.tensors}
    assert shapes["0.weight"] == (8, 3, 3, 3)
    assert shapes["4.weight"] == (10, 8 * 30 * 30 if inputs is None else 8 * 10 * 10)


def test_their_first_values_are_the_default_of_their_kind() -> None:
    weight = next(t for t in lint(images).tensors if t.name == "4.weight")
    assert weight.provenance.writes
    assert all(write.default for write in weight.provenance.writes)


def test_the_forward_leaves_nothing_else_behind() -> None:
    statistics = next(t.statistics for t in lint(images).tensors if t.name == "1.running_var")
    assert statistics is not None
    assert (statistics.minimum, statistics.maximum) == (1.0, 1.0)


def test_memory_that_a_lazy_layer_did_not_write() -> None:
    found = lint(lambda: nn.Sequential(Unwritten(), nn.ReLU(), nn.LazyLinear(4)))
    assert [(f.code, f.subject) for f in found.findings if f.severity == "error"] == [("IL301", "0.weight")]


def test_a_branch_that_does_not_run_stays_lazy() -> None:
    found = lint(Branches)
    assert found.status == "ok"
    assert [(f.rule, f.subject) for f in found.findings] == [("unused-parameter", "second.weight")]


def test_a_forward_that_raises_is_told_beside_what_was_found() -> None:
    def build() -> nn.Module:
        model = Branches()
        model.head.weight = nn.Parameter(torch.empty(3, 9))
        return model

    found = lint(build, torch.randn(2, 5))
    assert found.error is not None
    assert found.error.stage == "probe"
    assert [f.rule for f in found.findings] == ["uninitialized-memory"]


def test_a_model_that_is_handed_over_stays_lazy() -> None:
    layer = nn.LazyConv2d(8, 3)
    model = nn.Sequential(layer, nn.ReLU())
    (target,) = initlint.check(model, torch.randn(4, 3, 12, 12)).targets
    assert target.status == "ok"
    assert isinstance(layer, nn.LazyConv2d)
    assert torch.nn.parameter.is_lazy(layer.weight)
