"""Recipes: constructions that start as their methods ask, or only look like a known one, are left alone."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from called import Model
from torch import nn

import initlint
from initlint import registry
from initlint.analysis.recipes import GROUP, RECIPES, Recipe
from initlint.testing import tried


def told(build: Callable[[], nn.Module], *shape: int) -> list[tuple[str, str, str]]:
    """Severity, recipe and subject of every deviation."""
    report = initlint.check(build, torch.randn(shape or (8, 16)), select=["IL501"])
    return [(f.severity, f.message.partition(":")[0], f.subject) for f in report.findings]


def low_rank(frozen: bool = True) -> Model:
    base = nn.Linear(16, 16).requires_grad_(not frozen)
    down, up = nn.Linear(16, 4, bias=False), nn.Linear(4, 16, bias=False)
    return Model(lambda m, x: m.base(x) + m.up(m.down(x)), base=base, down=down, up=up)


def test_random_factors_beside_a_frozen_layer_are_a_warning() -> None:
    assert told(low_rank) == [("warning", "LoRA", "up.weight")]


def test_a_low_rank_branch_that_is_trained_with_its_layer_is_no_adapter() -> None:
    assert told(lambda: low_rank(frozen=False)) == []


def test_factors_taken_out_of_the_base_leave_the_output_as_it_was() -> None:
    def build() -> nn.Module:
        model = low_rank()
        base, down, up = (model.get_parameter(f"{name}.weight") for name in ("base", "down", "up"))
        base.data = base - up @ down
        return model

    assert told(build) == []


def blocks() -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.a, self.b = nn.LayerNorm(32), nn.Linear(32, 32), nn.Linear(32, 32)
            self.up, self.down = nn.Linear(32, 128), nn.Linear(128, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.b(self.a(self.norm(x)).tanh())
            down: torch.Tensor = self.down(self.up(self.norm(x)).relu())
            return x + down

    return nn.Sequential(nn.Linear(16, 32), *(Block() for _ in range(4)))


def test_a_std_that_follows_from_the_fan_is_no_depth_scaling() -> None:
    assert told(blocks) == []


def closed_but_for(*opened: str) -> nn.Module:
    """Residual blocks that end in a norm of gain zero, with a downsampling between them that may not."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(16, 16), nn.LayerNorm(16)
            nn.init.zeros_(self.norm.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            changed: torch.Tensor = self.norm(self.layer(x.relu()))
            return x + changed

    parts = OrderedDict(stem=nn.Linear(16, 16), blocks=nn.Sequential(Block(), Block()), between=Block())
    model = nn.Sequential(parts)
    for name in opened:
        nn.init.ones_(model.get_parameter(name))
    return model


def test_a_branch_left_open_is_a_warning_among_its_like_and_a_note_elsewhere() -> None:
    assert told(closed_but_for) == []
    for name, severity in (("blocks.1.norm.weight", "warning"), ("between.norm.weight", "note")):
        assert told(partial(closed_but_for, name)) == [(severity, "zero residual branch", name)]


def ended_at_zero(*closed: int) -> nn.Module:
    """Residual blocks of which some end in a matrix of zeros."""

    class Block(nn.Module):
        def __init__(self, closed: bool) -> None:
            super().__init__()
            self.layer, self.last = nn.Linear(16, 16), nn.Linear(16, 16)
            if closed:
                nn.init.zeros_(self.last.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            changed: torch.Tensor = self.last(self.layer(x).relu())
            return x + changed

    return nn.Sequential(nn.Linear(16, 16), *(Block(i in closed) for i in range(3)))


@pytest.mark.parametrize(
    ("closed", "subject"), [((1,), "2.last.weight"), ((2,), "1.last.weight"), ((0, 1), "3.last.weight")]
)
def test_the_odd_one_of_branches_that_end_in_matrices(closed: tuple[int, ...], subject: str) -> None:
    assert told(partial(ended_at_zero, *closed)) == [("warning", "zero residual branch", subject)]


def siren(omega: float = 30.0) -> nn.Module:
    layers = nn.ModuleList([nn.Linear(16, 64), nn.Linear(64, 64), nn.Linear(64, 64)])
    for k, layer in enumerate(layers):
        assert isinstance(layer, nn.Linear)
        bound = 1 / 16 if k == 0 else math.sqrt(6 / 64) / omega
        nn.init.uniform_(layer.weight, -bound, bound)

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        for layer in m.layers:
            x = torch.sin(30 * layer(x))
        return x

    return Model(forward, layers=layers)


def test_sine_layers() -> None:
    assert told(siren) == []
    assert {(s, r) for s, r, _ in told(lambda: siren(omega=1.0))} == {("warning", "SIREN")}


def test_learned_frequencies_are_no_siren() -> None:
    def snake(m: Any, x: torch.Tensor) -> torch.Tensor:
        for layer in (m.a, m.b, m.c):
            h = layer(x)
            x = h + torch.sin(m.alpha * h) ** 2 / m.alpha
        return x

    layers = {name: nn.Linear(16, 16) for name in "abc"}
    assert told(lambda: Model(snake, alpha=nn.Parameter(torch.ones(16)), **layers)) == []


def lstm(*names: str, gate: int = 1) -> nn.Module:
    layer = nn.LSTM(16, 8, 2, batch_first=True)
    for name in names:
        layer.get_parameter(name).data[8 * gate : 8 * gate + 8] = 1.0
    return Model(lambda m, x: m.layer(x)[0], layer=layer)


@pytest.mark.parametrize("names", [(), ("bias_hh_l0", "bias_hh_l1"), ("bias_ih_l0", "bias_hh_l1")])
def test_forget_bias_in_every_layer_or_none(names: tuple[str, ...]) -> None:
    assert told(lambda: lstm(*names), 2, 5, 16) == []


def test_forget_bias_missed_or_on_another_gate() -> None:
    assert told(lambda: lstm("bias_hh_l0"), 2, 5, 16) == [
        ("warning", "LSTM forget bias", "layer.bias_hh_l1"),
    ]
    astray = told(lambda: lstm("bias_hh_l0", "bias_hh_l1", gate=0), 2, 5, 16)
    assert {name for _, _, name in astray} == {"layer.bias_hh_l0"}


def test_forget_bias_of_an_encoder_but_not_of_its_decoder() -> None:
    def build(*opened: str) -> nn.Module:
        encoder, decoder = nn.LSTM(16, 8, batch_first=True), nn.LSTM(8, 8, batch_first=True)
        model = Model(lambda m, x: m.decoder(m.encoder(x)[0])[0], encoder=encoder, decoder=decoder)
        for name in opened:
            model.get_parameter(f"{name}.bias_hh_l0").data[8:16] = 1
        return model

    assert told(lambda: build("encoder"), 2, 5, 16) == [("note", "LSTM forget bias", "decoder.bias_hh_l0")]
    assert told(lambda: build("encoder", "decoder"), 2, 5, 16) == []


def test_decays_of_a_linear_recurrence() -> None:
    def build(decays: torch.Tensor) -> nn.Module:
        def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
            kept, state = torch.exp(-torch.exp(m.decay)), torch.zeros(8)
            for part in m.inner(x).unbind(1):
                state = kept * state + part
            y: torch.Tensor = m.outer(state)
            return y

        model = Model(forward, inner=nn.Linear(16, 8), outer=nn.Linear(8, 2))
        model.decay = nn.Parameter(decays)
        return model

    assert told(lambda: build(torch.ones(8)), 2, 5, 16) == [("note", "linear recurrence", "decay")]
    assert told(lambda: build(torch.linspace(-6, 1, 8)), 2, 5, 16) == []


def heads(class_bias: float, box_bias: float = 0.0, sigmoid: bool = True) -> nn.Module:
    trunk, classes, boxes = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 1), nn.Conv2d(8, 4, 1)
    nn.init.constant_(classes.bias, class_bias)  # type: ignore[arg-type]
    nn.init.constant_(boxes.bias, box_bias)  # type: ignore[arg-type]

    def forward(m: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = m.trunk(x).relu()
        return (m.first(h).sigmoid() if sigmoid else m.first(h)), m.second(h)

    return Model(forward, trunk=trunk, first=classes, second=boxes)


def test_class_prior() -> None:
    assert told(lambda: heads(-4.6), 2, 3, 8, 8) == []
    assert told(lambda: heads(0.0, sigmoid=False), 2, 3, 8, 8) == []
    assert told(lambda: heads(0.0), 2, 3, 8, 8) == [("note", "class prior", "first.bias")]
    assert told(lambda: heads(0.0, -4.6), 2, 3, 8, 8) == [("warning", "class prior", "first.bias")]


def test_a_softplus_without_a_decay_is_no_step_size() -> None:
    layer = nn.Linear(16, 4)
    nn.init.zeros_(layer.bias)
    assert told(lambda: Model(lambda m, x: nn.functional.softplus(m.layer(x)), layer=layer)) == []


def test_every_recipe_cites_its_source() -> None:
    for recipe in RECIPES:
        assert any(character.isdigit() for character in recipe.reference), recipe.name
        assert recipe.asks[-1] not in ".!", recipe.name


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_has_a_model_that_departs_and_one_that_does_not(recipe: Recipe) -> None:
    rule = registry.load().find("IL501", "test")
    examples = import_module(f"{rule.__module__.rpartition('.')[0]}.examples.recipes").examples[recipe.name]
    assert any(not example.finds for example in examples)
    departing = [example for example in examples if example.finds]
    assert departing
    for example in departing:
        messages = [finding.message for finding in tried(rule, example).findings]
        assert messages
        assert all(message.startswith(f"{recipe.name}: ") for message in messages)


PACK = """\
from initlint.analysis.recipes import Deviation, Recipe


def deviations(model):
    for tensor in model.parameters:
        if tensor.local_name == "temperature":
            yield Deviation(tensor, "starts warm", "start cold", {"mean": 1.0}, {"mean": 0.0})


recipes = (Recipe("cold start", "temperatures start at zero", "Kelvin, 1848", deviations),)
broken = ("no recipe",)
"""


def pack(folder: Path, name: str) -> None:
    """A distribution whose entry point names an attribute of a module of recipes."""
    (folder / "cold_pack.py").write_text(PACK)
    information = folder / "cold_pack-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: cold-pack\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{GROUP}]\ncold = cold_pack:{name}\n")


def lint_with_pack(folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "mymodel.py").write_text(
        "import torch\n\nclass Model(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.temperature = torch.nn.Parameter(torch.ones(()))\n\n"
        "    def forward(self, x):\n        return x * self.temperature\n"
    )
    options = ["--select", "IL501", "--input-shape", "2,3"]
    command = [sys.executable, "-m", "initlint", "mymodel.py:Model", *options]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_packs_add_recipes(tmp_path: Path) -> None:
    pack(tmp_path, "recipes")
    done = lint_with_pack(tmp_path)
    assert "cold start: starts warm" in done.stdout, done.stdout + done.stderr


def test_broken_recipes_of_a_pack_are_one_sentence(tmp_path: Path) -> None:
    pack(tmp_path, "broken")
    done = lint_with_pack(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    said = "entry point 'cold' of initlint.recipes names cold_pack:broken, which is no tuple of recipes"
    assert done.stderr == f"initlint: {said}\n"
