"""Scales of weights: which fan they were computed from, what harm they do, how they add up in a chain."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import pytest
import torch
from listening import evidence
from torch import nn

from initlint import Evidence, Weight
from initlint.analysis import symptoms
from initlint.analysis.chains import chains
from initlint.analysis.fans import has_plain_scale, misreading, root_slip

Draw = Callable[[torch.Tensor], object]


class Product(nn.Module):
    """x @ W, a rectifier and a readout."""

    def __init__(self, draw: Draw, inputs: int = 128, outputs: int = 6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.readout = nn.Linear(outputs, 4)
        draw(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.readout(torch.relu(x @ self.weight))
        return y


def product(draw: Draw) -> Evidence:
    return evidence(lambda: Product(draw), torch.randn(32, 128))


def weight(model: Evidence, name: str) -> Weight:
    found = model.by_name[name]
    assert isinstance(found, Weight)
    return found


# ---------------------------------------------------------------- fans


@pytest.mark.parametrize(
    ("draw", "fan", "by"),
    [
        (nn.init.kaiming_normal_, 6, "call"),
        (nn.init.kaiming_uniform_, 6, "call"),
        (lambda w: nn.init.normal_(w, std=sqrt(2 / 6)), 6, "formula"),
        (lambda w: nn.init.uniform_(w, -1 / sqrt(6), 1 / sqrt(6)), 6, "formula"),
    ],
    ids=["normal", "uniform", "std by hand", "bound by hand"],
)
def test_the_fan_that_a_scale_comes_from(draw: Draw, fan: float, by: str) -> None:
    model = product(draw)
    wrong = misreading(model, weight(model, "weight"))
    assert wrong is not None
    assert (wrong.fan, wrong.true, wrong.by) == (fan, 128, by)
    assert wrong.ratio == pytest.approx(sqrt(128 / 6))


@pytest.mark.parametrize(
    "draw",
    [
        lambda w: nn.init.kaiming_normal_(w.t()),
        lambda w: nn.init.kaiming_normal_(w, mode="fan_out"),
        nn.init.xavier_uniform_,
        lambda w: nn.init.normal_(w, std=sqrt(2 / 128)),
        lambda w: nn.init.normal_(w, std=0.02),
        nn.init.orthogonal_,
    ],
    ids=[
        "transposed view",
        "fan_out of a transposed weight",
        "mean of both",
        "by hand",
        "0.02",
        "orthogonal",
    ],
)
def test_scales_of_the_right_fan_and_of_none(draw: Draw) -> None:
    model = product(draw)
    assert misreading(model, weight(model, "weight")) is None


def test_a_plain_number_is_chosen_and_a_formula_is_not() -> None:
    assert has_plain_scale(weight(product(lambda w: nn.init.normal_(w, std=0.02)), "weight"))
    assert not has_plain_scale(weight(product(lambda w: nn.init.normal_(w, std=sqrt(2 / 128))), "weight"))


def test_a_root_that_is_left_out() -> None:
    slip = root_slip(weight(product(lambda w: nn.init.normal_(w, std=2 / 128)), "weight"))
    assert slip is not None
    assert slip.formula == "2/128"
    assert slip.meant == pytest.approx(sqrt(2 / 128))
    assert root_slip(weight(product(lambda w: nn.init.normal_(w, std=sqrt(2 / 128))), "weight")) is None


# ---------------------------------------------------------------- harm


def stack(scale: float, place: int, activation: Callable[[], nn.Module], norm: bool = False) -> nn.Module:
    """Six layers, one of which is scaled."""
    layers: list[nn.Module] = []
    for index in range(6):
        layer = nn.Linear(64, 64)
        nn.init.xavier_normal_(layer.weight)
        if index == place:
            with torch.no_grad():
                layer.weight.mul_(scale)
        layers += [layer, *([nn.LayerNorm(64)] if norm else []), activation()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def kind(found: symptoms.Symptom | None) -> str | None:
    return found.kind if found is not None else None


def test_a_large_weight_saturates_tanh_and_multiplies_in_front_of_relu() -> None:
    x = torch.randn(32, 64)
    flat = evidence(lambda: stack(30, 2, nn.Tanh), x)
    assert kind(symptoms.of_excess(flat, weight(flat, "4.weight"))) == "saturation"
    assert symptoms.is_saturated(flat, weight(flat, "4.weight"))
    assert not symptoms.is_saturated(flat, weight(flat, "0.weight"))
    grown = evidence(lambda: stack(30, 2, nn.ReLU), x)
    found = symptoms.of_excess(grown, weight(grown, "4.weight"))
    assert found is not None
    assert found.kind == "growth"
    assert found.value == pytest.approx(30, rel=0.25)
    assert symptoms.of_excess(grown, weight(grown, "0.weight")) is None


def test_what_a_normalisation_restores_does_no_harm() -> None:
    model = evidence(lambda: stack(0.001, 2, nn.ReLU, norm=True), torch.randn(32, 64))
    last = weight(model, "6.weight")
    assert symptoms.is_restored(model, last)
    assert kind(symptoms.of_lack(model, last)) in (None, "gradient")
    plain = evidence(lambda: stack(0.001, 2, nn.ReLU), torch.randn(32, 64))
    assert not symptoms.is_restored(plain, weight(plain, "4.weight"))
    assert kind(symptoms.of_lack(plain, weight(plain, "4.weight"))) == "decay"


class Branches(nn.Module):
    """Branches of two layers, the last of them behind a scale that may all but close it."""

    def __init__(self, std: float, scale: float) -> None:
        super().__init__()
        self.up, self.down = (nn.ModuleList(nn.Linear(64, 64) for _ in range(4)) for _ in range(2))
        self.head, self.scale = nn.Linear(64, 10), scale
        nn.init.normal_(self.up[3].weight, std=std)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            branch = down(nn.functional.layer_norm(up(x), (64,)))
            x = x + branch * (self.scale if i == 3 else 1.0)
        y: torch.Tensor = self.head(x)
        return y


def test_a_gradient_that_is_lost_behind_a_weight_is_not_its_own_loss() -> None:
    for std, scale, expected in ((1.0, 1e-5, None), (10.0, 1.0, "gradient"), (1.0, 1.0, None)):
        model = evidence(lambda std=std, scale=scale: Branches(std, scale), torch.randn(32, 64))  # type: ignore[misc]
        up = weight(model, "up.3.weight")
        assert (symptoms.disproportion(model, up) < 1e-3) == (scale < 1 or std > 1)  # type: ignore[operator]
        assert kind(symptoms.of_excess(model, up)) == expected


class Residual(nn.Module):
    """A stem and a pre-norm branch."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.stem, self.norm, self.branch, self.head = (
            nn.Linear(32, 32),
            nn.LayerNorm(32),
            nn.Linear(32, 32),
            nn.Linear(32, 10),
        )
        nn.init.normal_(self.stem.weight, std=scale / sqrt(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.branch(self.norm(x))
        y: torch.Tensor = self.head(x)
        return y


def test_the_norm_inside_a_branch_does_not_restore_the_stream() -> None:
    for scale, expected in ((100.0, "growth"), (1.0, None)):
        model = evidence(lambda scale=scale: Residual(scale), torch.randn(32, 32))  # type: ignore[misc]
        stem = weight(model, "stem.weight")
        assert not symptoms.is_restored(model, stem)
        assert kind(symptoms.of_excess(model, stem)) == expected


def test_confident_logits_are_told_from_similarities() -> None:
    def build(std: float) -> nn.Module:
        head = nn.Linear(64, 10)
        nn.init.normal_(head.weight, std=std)
        return nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), head)

    loud, usual = (evidence(lambda std=std: build(std), torch.randn(32, 32)) for std in (2.0, 0.02))  # type: ignore[misc]
    assert kind(symptoms.of_excess(loud, weight(loud, "2.weight"))) == "logits"
    assert symptoms.of_excess(usual, weight(usual, "2.weight")) is None


# ---------------------------------------------------------------- chains


def drawn(depth: int, draw: Draw, between: Callable[[], nn.Module]) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(64, 64)
        draw(layer.weight)
        nn.init.zeros_(layer.bias)
        layers += [layer, between()]
    return nn.Sequential(*layers, nn.Linear(64, 4))


def test_a_chain_has_the_gain_and_the_growth_of_its_layers() -> None:
    x = torch.randn(64, 64)
    (chain,) = chains(evidence(lambda: drawn(8, nn.init.xavier_normal_, nn.ReLU), x))
    assert len(chain.weights) == 8
    assert (chain.activation, chain.steps) == ("relu", 7)
    assert chain.gain == pytest.approx(1, rel=0.05)
    assert chain.growth == pytest.approx(2 ** (-7 / 2), rel=0.4)


@pytest.mark.parametrize(
    "build",
    [
        lambda: drawn(2, nn.init.xavier_normal_, nn.ReLU),
        lambda: drawn(8, lambda w: w, nn.ReLU),
        lambda: drawn(8, nn.init.xavier_normal_, lambda: nn.Sequential(nn.LayerNorm(64), nn.ReLU())),
        lambda: drawn(8, lambda w: nn.init.normal_(w, std=0.1), nn.ReLU),
        lambda: drawn(8, nn.init.xavier_normal_, nn.Sigmoid),
    ],
    ids=["too short", "defaults", "normalised", "a plain number", "sigmoid"],
)
def test_what_is_no_chain(build: Callable[[], nn.Module]) -> None:
    assert list(chains(evidence(build, torch.randn(64, 64)))) == []
