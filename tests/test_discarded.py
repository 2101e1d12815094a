"""Results that a line computes from or for parameters, and where they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from initlint.construct import construct


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
