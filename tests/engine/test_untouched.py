"""What a check leaves as it was, where it once did not: gradients, pending backwards, strangers, threads."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
import torch
from torch import nn

import initlint
from initlint.runtime import preserved


def zero_head() -> nn.Module:
    """Its head goes to confirmation, which runs a few steps in float64."""
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    nn.init.zeros_(model.get_parameter("2.weight"))
    return model


def adapter() -> nn.Module:
    class LoRA(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(8, 8).requires_grad_(False)
            self.down, self.up = nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)
            nn.init.zeros_(self.up.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.base(x) + self.up(self.down(x))
            return y

    return LoRA()


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 2))


MODELS = (zero_head, adapter, normalised)
X = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize("step", [False, True], ids=["gradients", "zeroed gradients"])
def test_gradients_and_default_dtype_stay(build: Callable[[], nn.Module], step: bool) -> None:
    model = build()
    model(X).square().sum().backward()
    if step:
        model.zero_grad(set_to_none=False)
    before = {
        name: (p.grad, None if p.grad is None else p.grad.clone()) for name, p in model.named_parameters()
    }
    generator = torch.get_rng_state()
    initlint.check(model, X)
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), generator)
    for name, parameter in model.named_parameters():
        gradient, values = before[name]
        assert parameter.grad is gradient, name
        if gradient is not None and values is not None:
            assert gradient.dtype == torch.float32
            assert torch.equal(gradient, values), name


@pytest.mark.parametrize("build", MODELS)
def test_a_pending_backward_still_works(build: Callable[[], nn.Module]) -> None:
    model = build()
    loss = model(X).square().sum()
    versions = [parameter._version for parameter in model.parameters()]
    initlint.check(model, X)
    assert [parameter._version for parameter in model.parameters()] == versions
    loss.backward()


def test_what_made_the_inputs_gets_no_gradient_and_keeps_its_graph() -> None:
    backbone, head = nn.Linear(8, 8), nn.Linear(8, 2)
    features = backbone(X)
    initlint.check(head, features)
    initlint.check(head, (features,))
    initlint.check(head, {"input": features})
    assert all(parameter.grad is None for parameter in backbone.parameters())
    head(features).sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_what_cannot_be_put_back_keeps_nothing_else_from_it() -> None:
    model = nn.Linear(4, 4)
    before = model.weight.detach().clone()
    broken: list[int] = []

    class Generator(torch.Generator):
        def set_state(self, new_state: torch.Tensor) -> Any:
            broken.append(1)
            raise RuntimeError("no state")

    vars(model)["generator"] = Generator()

    def change() -> None:
        with preserved(model):
            model.weight.data.zero_()
            torch.set_default_dtype(torch.float64)

    with pytest.raises(RuntimeError, match="no state"):
        change()
    assert broken
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(model.weight, before)


def test_two_threads_leave_torch_unpatched() -> None:
    functions = (
        torch.manual_seed,
        nn.Parameter.__dict__.get("requires_grad"),
        nn.Parameter.__dict__.get("data"),
    )
    mode = torch.get_deterministic_debug_mode()
    reports: list[initlint.Report] = []
    threads = [
        Thread(target=lambda build=build: reports.append(initlint.check(build, X))) for build in MODELS * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == len(threads)
    assert not any(report.failed for report in reports)
    assert torch.get_deterministic_debug_mode() == mode
    assert functions == (
        torch.manual_seed,
        nn.Parameter.__dict__.get("requires_grad"),
        nn.Parameter.__dict__.get("data"),
    )
