"""The way of a signal through real models: where it is cut, how it grows, which weights are named."""

from __future__ import annotations

from functools import partial
from statistics import stdev

import pytest
import torch
from listening import evidence
from torch import nn

import initlint
from initlint.analysis.culprits import signal_trends, writers
from initlint.analysis.signal_path import gradient_paths, level, stretches


def plain(depth: int, gain: float, width: int = 64) -> nn.Module:
    """Linear layers without bias that multiply the rms by `gain`."""
    layers = [nn.Linear(width, width, bias=False) for _ in range(depth)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.5])
def test_growth_per_layer_is_the_gain(gain: float) -> None:
    model = evidence(lambda: plain(8, gain), torch.randn(16, 64))
    (stretch,) = stretches(model)
    assert stretch.layers == 8
    assert stretch.growth == pytest.approx(gain, rel=0.02)
    assert stretch.change == pytest.approx(gain**8, rel=0.1)
    (back,) = gradient_paths(model)
    assert back.growth == pytest.approx(gain, rel=0.02)


def narrow(seed: int) -> nn.Module:
    """Layers of few units of the scale that ReLU asks for."""
    generator = torch.Generator().manual_seed(seed)
    layers = [layer for _ in range(8) for layer in (nn.Linear(8, 8, bias=False), nn.ReLU())]
    for layer in layers[::2]:
        nn.init.kaiming_normal_(layer.get_parameter("weight"), nonlinearity="relu", generator=generator)
    return nn.Sequential(*layers)


def test_what_chance_alone_changes_is_known() -> None:
    inputs = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    found = [next(stretches(evidence(partial(narrow, seed), inputs))) for seed in range(30)]
    totals = [level(stretch.end) - level(stretch.start) for stretch in found]
    assert found[0].chance == pytest.approx(stdev(totals), rel=0.4)  # of 30 draws: 13 % standard error


@pytest.mark.parametrize(("gain", "severity"), [(0.25, "note"), (0.15, "warning")])
def test_a_fall_that_narrow_layers_show_by_chance_is_a_note(gain: float, severity: str) -> None:
    report = initlint.check(partial(plain, 6, gain, width=4), torch.randn(16, 4))
    (finding,) = (f for f in report.targets[0].findings if f.code == "IL403")
    assert finding.severity == severity


def test_one_small_layer_is_no_fall_per_layer() -> None:
    def build() -> nn.Module:
        model = plain(8, 1.0)
        nn.init.orthogonal_(model.get_parameter("3.weight"), 1e-5)
        return model

    (stretch,) = stretches(evidence(build, torch.randn(16, 64)))
    assert stretch.growth == pytest.approx(1.0, rel=0.1)
    assert stretch.change > 0.5


class Lateral(nn.Module):
    """A short way beside a long one, as in a feature pyramid; only the first layers multiply the signal."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.long, self.last = plain(4, 1.5), plain(32, 0.9), plain(4, 1.0)
        self.lateral = plain(1, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        total: torch.Tensor = self.last(self.lateral(x) + self.long(x))
        return total


def test_a_step_past_many_layers_counts_as_many() -> None:
    (back,) = gradient_paths(evidence(Lateral, torch.randn(16, 64)))
    assert back.layers > 30
    assert back.growth == pytest.approx(1.0, abs=0.05)


def test_biases_do_not_hide_that_inputs_cease_to_matter() -> None:
    def build() -> nn.Module:
        layers = [nn.Linear(64, 64) for _ in range(8)]
        for layer in layers:
            nn.init.orthogonal_(layer.weight, 0.3)
            nn.init.normal_(layer.bias)
        return nn.Sequential(*layers)

    (stretch,) = stretches(evidence(build, torch.randn(16, 64)))
    assert stretch.end.forward.rms > 0.5
    assert stretch.change == pytest.approx(0.3**8, rel=0.2)


def test_a_normalisation_begins_a_new_stretch() -> None:
    def build() -> nn.Module:
        return nn.Sequential(plain(6, 0.5), nn.LayerNorm(64), plain(5, 2.0))

    (stretch,) = stretches(evidence(build, torch.randn(16, 64)))
    assert stretch.start.kind == "norm" or stretch.start.depth == 7
    assert stretch.growth == pytest.approx(2.0, rel=0.05)


def test_residual_sums_are_followed_along_the_stream() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
            nn.init.orthogonal_(self.first.weight)
            nn.init.orthogonal_(self.second.weight, 1e-6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            branch: torch.Tensor = self.second(self.first(x))
            return branch + x

    (stretch,) = stretches(evidence(lambda: nn.Sequential(*(Block() for _ in range(6))), torch.randn(16, 64)))
    assert all(step.residual for step in stretch.steps)
    assert stretch.growth == pytest.approx(1.0, rel=1e-3)


def test_the_signal_goes_through_a_given_adjacency() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = plain(5, 0.5)

        def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
            for layer in self.layers.children():
                x = adjacency @ layer(x)
            return x

    order = torch.eye(16).roll(1, 0)
    (stretch,) = stretches(evidence(Graph, torch.randn(16, 64), order * 100))
    assert [s.weights for s in stretch.steps] == [(f"layers.{i}.weight",) for i in range(5)]


def test_culprits_are_the_layers_that_shrink_the_signal() -> None:
    def build() -> nn.Module:
        return nn.Sequential(plain(2, 1.2), plain(6, 0.3))

    (trend,) = signal_trends(evidence(build, torch.randn(16, 64)), falling=True)
    assert [t.name for t in trend.culprits] == [f"1.{i}.weight" for i in range(6)]


def test_a_bias_that_outweighs_the_signal_is_named_first() -> None:
    def build(bias: float) -> nn.Module:
        layer = nn.Linear(64, 64)
        nn.init.constant_(layer.bias, bias)
        return nn.Sequential(layer, nn.Sigmoid())

    for bias, first in ((10.0, "0.bias"), (0.1, "0.weight")):
        model = evidence(lambda bias=bias: build(bias), torch.randn(16, 64))  # type: ignore[misc]
        assert writers(model, model.signals[-1])[0].name == first


def test_the_weight_that_made_a_signal_large_is_named_not_the_last_one() -> None:
    def build() -> nn.Module:
        return nn.Sequential(plain(1, 50.0), plain(1, 1.0), nn.Tanh())

    model = evidence(build, torch.randn(16, 64))
    assert writers(model, model.signals[-1])[0].name == "0.0.weight"


def test_a_bias_that_is_added_later_is_named() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(64, 32) / 8)
            self.bias = nn.Parameter(torch.full((32,), -10.0))

        def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
            return torch.relu(adjacency @ (x @ self.weight) + self.bias)

    model = evidence(lambda: nn.Sequential(Wrapped(Graph())), torch.randn(16, 64))
    assert writers(model, model.signals[-1])[0].name == "0.inner.bias"


class Wrapped(nn.Module):
    """Gives a graph layer a ring of neighbours."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.inner(x, torch.eye(len(x)).roll(1, 0))
        return output
