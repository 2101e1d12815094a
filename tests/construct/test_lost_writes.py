"""Results that a line computes from or for parameters, and where they go."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from initlint.construct.build import construct


def lost(build: Callable[[], nn.Module]) -> set[tuple[str, str]]:
    return {(entry.subject, entry.reason) for entry in construct(lambda: build, seed=0).lost_writes}


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def rebound_by_a_call() -> nn.Module:
    model = net()
    p: torch.Tensor
    for _, p in model.named_parameters():
        if p.dim() > 1:
            p = nn.init.orthogonal_(torch.empty(p.shape))
        else:
            with torch.no_grad():
                p.zero_()
    return model


def rebound_in_a_mapping() -> nn.Module:
    model = net()
    for _, p in model.state_dict().items():
        p = p * 0.1
    return model


def rebound_and_copied() -> nn.Module:
    model = net()
    p: torch.Tensor
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "weight" in name:
                p = torch.ones(p.shape) * 0.1
            model.get_parameter(name).copy_(p)
    return model


def rebound_and_measured() -> nn.Module:
    model = net()
    p: torch.Tensor
    for p in model.parameters():
        for _ in range(2):
            assert torch.isfinite(p).all()
            p = p * 0.5
    return model


def rebound_elsewhere() -> nn.Module:
    model = net()
    for p in [torch.ones(8, 4), torch.ones(2, 8)]:
        p = p * 0.5
    return model if list(model.parameters()) else nn.Identity()


def entry_replaced() -> nn.Module:
    model = net()
    state = model.state_dict()
    for key in list(state):
        if key.startswith("2."):
            state[key] = torch.zeros(state[key].shape)
    return model


def entry_of_the_call() -> nn.Module:
    model = net()
    model.state_dict()["0.weight"] = torch.eye(8, 4)
    return model


def entry_of_parameters() -> nn.Module:
    model = net()
    parameters: dict[str, Any] = dict(model.named_parameters())
    parameters["2.weight"] = parameters["2.weight"] * 0.01
    return model


def entry_loaded() -> nn.Module:
    model = net()
    state = net().state_dict()
    state["2.weight"] = state["2.weight"] * 0.01
    model.load_state_dict(state)
    return model


def entry_assigned() -> nn.Module:
    model = net()
    state = model.state_dict()
    state["2.weight"] = state["2.weight"] * 0.01
    model.load_state_dict(state, assign=True)
    return model


def entry_handed_on() -> nn.Module:
    def keep(_: object) -> None:
        return None

    model = net()
    state = model.state_dict()
    state["2.weight"] = state["2.weight"] * 0.01
    keep(state)
    return model


def alias_rebound() -> nn.Module:
    model = net()
    for layer in (model[0], model[2]):
        w: torch.Tensor = layer.weight  # type: ignore[assignment]
        w = w * 0.1
    return model


def argument_rebound() -> nn.Module:
    def scale(w: torch.Tensor) -> None:
        w = w * 0.1

    model = net()
    scale(model.get_parameter("2.weight"))
    return model


def variable_never_read() -> nn.Module:
    model = net()
    halved = model.get_parameter("2.weight").data * 0.5  # noqa: F841
    return model


def result_of_a_function_dropped() -> nn.Module:
    def scale(w: torch.Tensor) -> torch.Tensor:
        w = w * 0.1
        return w  # noqa: RET504

    model = net()
    scale(model.get_parameter("2.weight"))
    return model


def alias_copied_back() -> nn.Module:
    model = net()
    w = model.get_parameter("2.weight").detach()
    for _ in range(3):
        w = w * 0.5
    model.get_parameter("2.weight").data.copy_(w)
    return model


def alias_read_when_the_loop_comes_again() -> nn.Module:
    model = net()
    w = model.get_parameter("2.weight").detach()
    for again in (False, True):
        if again and not torch.isfinite(w).all():
            raise ValueError
        w = w * 2
    return model


def alias_read_by_a_handler() -> nn.Module:
    model = net()
    w = model.get_parameter("2.weight").detach()
    try:
        w = w * 2
        model.eval()
    except ValueError:
        w = w / 2
        raise
    return model


def alias_read_by_an_inner_function() -> nn.Module:
    model = net()
    w = model.get_parameter("2.weight").detach()

    def finite() -> bool:
        return bool(torch.isfinite(w).all())

    w = w * 2
    return model if finite() else net()


def of_another_model() -> nn.Module:
    teacher, model = net(), net()
    teacher.get_parameter("2.weight").data.mul(0.1)
    return model


def test_variables_that_nothing_reads() -> None:
    assert lost(alias_rebound) == {("0.weight", "unused"), ("2.weight", "unused")}
    assert lost(argument_rebound) == {("2.weight", "unused")}
    assert lost(variable_never_read) == {("2.weight", "unused")}
    assert lost(result_of_a_function_dropped) == {("2.weight", "unused")}


@pytest.mark.parametrize(
    "build",
    [
        alias_copied_back,
        alias_read_when_the_loop_comes_again,
        alias_read_by_a_handler,
        alias_read_by_an_inner_function,
        of_another_model,
    ],
    ids=lambda build: build.__name__,
)
def test_variables_that_something_reads_and_models_that_are_not_built(build: Callable[[], nn.Module]) -> None:
    assert not lost(build)


MODULE = """
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
for p in model[2].parameters():
    p = torch.zeros_like(p)
w = model[0].weight
w = w * 0.1
b = model[0].bias
b = b * 0.1

def scaled(w):
    return w, b
"""


def test_lines_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(MODULE)
    spec = importlib.util.spec_from_file_location("made", tmp_path / "made.py")
    assert spec is not None
    assert spec.loader is not None
    module, loader = importlib.util.module_from_spec(spec), spec.loader

    def build() -> Any:
        loader.exec_module(module)
        return module.model

    assert lost(build) == {("2.weight", "unused"), ("2.bias", "unused"), ("0.weight", "unused")}


def test_loop_variable_rebound() -> None:
    assert ("0.weight", "unused") in lost(rebound_by_a_call) | lost(rebound_in_a_mapping)
    assert {name for name, _ in lost(rebound_by_a_call)} >= {"0.weight", "2.weight"}
    assert {name for name, _ in lost(rebound_in_a_mapping)} == set(net().state_dict())


def test_loop_variable_rebound_and_read() -> None:
    assert not lost(rebound_and_copied)
    assert not lost(rebound_and_measured)
    assert not lost(rebound_elsewhere)


def test_entry_never_loaded() -> None:
    assert lost(entry_replaced) == {("2.weight", "entry"), ("2.bias", "entry")}
    assert lost(entry_of_the_call) == {("0.weight", "entry")}
    assert lost(entry_of_parameters) == {("2.weight", "entry")}


def test_entry_loaded_or_handed_on() -> None:
    assert not lost(entry_loaded)
    assert not lost(entry_assigned)
    assert not lost(entry_handed_on)
