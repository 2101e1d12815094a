"""Buffers that a forward updates, conversions that lose values, copies that were made too early."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import initlint
from initlint.evidence.model import Tensor as Record
from initlint.probe.buffers import BufferWatch


class Codebook(nn.Module):
    codes: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, *, started: bool, seeded: bool = True) -> None:
        super().__init__()
        self.ready = seeded
        self.register_buffer("codes", torch.randn(4, 8))
        self.register_buffer("counts", torch.full((4,), 16.0))
        self.register_buffer("sums", self.codes * (16 if started else 1))

    def forward(self, x: Tensor) -> Tensor:
        self.ready = True
        hot = nn.functional.one_hot(torch.cdist(x, self.codes).argmin(-1), 4).type_as(x)
        self.counts.lerp_(hot.sum(0), 0.01)
        self.sums.lerp_(hot.T @ x, 0.01)
        self.codes.copy_(self.sums / self.counts[:, None])
        return hot @ self.codes


def ran(model: nn.Module) -> BufferWatch:
    running = BufferWatch(model)
    model(torch.randn(32, 8))
    return running


def test_sums_counts_and_means_are_told_by_their_update() -> None:
    (coupling,) = ran(Codebook(started=False)).couplings()
    assert (coupling.counts, coupling.sums, coupling.means) == ("counts", "sums", "codes")
    assert coupling.disagreement == pytest.approx(15 / 16)
    assert coupling.jump < 0.5


def test_agreement_at_the_start_is_measured() -> None:
    (coupling,) = ran(Codebook(started=True)).couplings()
    assert coupling.disagreement < 1e-6


def test_a_module_that_initialises_itself_in_its_first_forward_is_left_alone() -> None:
    assert ran(Codebook(started=False, seeded=False)).couplings() == ()


def test_only_what_changed_is_updated() -> None:
    model = nn.Sequential(nn.BatchNorm1d(8), nn.Module())
    model[1].register_buffer("still", torch.ones(3))
    model[1].forward = lambda x: x
    assert ran(model).updated() == {"0.running_mean", "0.running_var", "0.num_batches_tracked"}


def record(build: Callable[[], nn.Module], name: str) -> Record:
    tensors = initlint.check(build, select=["dtype-underflow"]).targets[0].tensors
    return next(t for t in tensors if t.name == name)


def converted(value: float) -> nn.Module:
    model = nn.Linear(4, 4)
    nn.init.constant_(model.weight, value)
    return model.half()


def test_a_conversion_counts_what_it_made_zero() -> None:
    flush = record(partial(converted, 1e-9), "weight").provenance.flush
    assert flush is not None
    assert flush.arguments["flushed"] == 16
    assert flush.arguments["largest"] == pytest.approx(1e-9)


@pytest.mark.parametrize("value", [0.0, 1e-3])
def test_zeros_and_what_fits_are_not_lost(value: float) -> None:
    assert record(partial(converted, value), "weight").provenance.flush is None


def shadowed(*, early: bool) -> nn.Module:
    model = nn.Linear(4, 4)
    if early:
        model.register_buffer("shadow", model.weight.detach().clone())
    nn.init.orthogonal_(model.weight)
    if not early:
        model.register_buffer("shadow", model.weight.detach().clone())
    return model


def test_a_copy_of_what_was_written_again_is_outdated() -> None:
    assert record(partial(shadowed, early=True), "shadow").provenance.outdated == "weight"
    current = record(partial(shadowed, early=False), "shadow").provenance
    assert (current.outdated, current.copied_from) == (None, "weight")
