"""Who is whose sibling, and which of them is odd."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from listening import evidence
from torch import nn

from initlint.analysis.families import beside, recurrent_part, rows, siblings
from initlint.analysis.outliers import lone_zeros, oddities


def odd(build: Callable[[], nn.Module], *inputs: torch.Tensor) -> set[str]:
    return {oddity.odd.name for oddity in oddities(evidence(build, *inputs), ratio=1.5, shift=0.25)}


def empty(build: Callable[[], nn.Module], *inputs: torch.Tensor) -> set[str]:
    return {weight.name for weight, _ in lone_zeros(evidence(build, *inputs))}


class Block(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))


def blocks(count: int) -> nn.ModuleList:
    return nn.ModuleList(Block() for _ in range(count))


def small(*layers: nn.Module) -> None:
    for layer in layers:
        nn.init.normal_(layer.get_parameter("weight"), std=0.01)


def test_siblings_by_index_layer_direction_and_name() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = blocks(2)
            self.rnn = nn.GRU(4, 4, num_layers=2, bidirectional=True)
            self.rnn_fwd, self.rnn_bwd = nn.RNNCell(3, 5), nn.RNNCell(3, 5)

    found = {(g.kind, g.pattern): tuple(t.name for t in g.members) for g in siblings(evidence(Model))}
    assert found["index", "blocks.{}.q.weight"] == ("blocks.0.q.weight", "blocks.1.q.weight")
    assert found["layer", "rnn.weight_hh{}"] == tuple(
        f"rnn.weight_hh_{layer}" for layer in ("l0", "l0_reverse", "l1", "l1_reverse")
    )
    assert found["direction", "rnn_{}.weight_ih"] == ("rnn_fwd.weight_ih", "rnn_bwd.weight_ih")
    assert found["named", "blocks.0.{}.weight"] == tuple(f"blocks.0.{name}.weight" for name in "qkv")


def test_other_shapes_are_no_siblings() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2))

    assert not list(siblings(evidence(build)))


@pytest.mark.parametrize("missed", range(4))
def test_a_block_that_a_loop_misses(missed: int) -> None:
    def build() -> nn.Module:
        model = blocks(4)
        for i, block in enumerate(model):
            if i != missed:
                small(*block.children())
        return model

    assert odd(build) == {f"{missed}.{name}.weight" for name in "qkv"}


def test_a_projection_that_its_line_misses() -> None:
    def build() -> nn.Module:
        model = Block()
        small(model.q, model.k)
        return model

    assert odd(build) == {"v.weight"}


def test_an_initialiser_that_returns_after_the_first_block() -> None:
    def build() -> nn.Module:
        model = blocks(3)
        small(model.get_submodule("0.q"))
        return model

    assert {"1.q.weight"} <= odd(build)


def initialised(count: int) -> nn.ModuleList:
    model = blocks(count)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            small(module)
    return model


@pytest.mark.parametrize("place", range(4))
def test_a_block_that_got_a_larger_draw_on_top(place: int) -> None:
    def build() -> nn.Module:
        model = initialised(4)
        nn.init.normal_(model.get_parameter(f"{place}.k.weight"), std=0.5)
        return model

    assert odd(build) == {f"{place}.k.weight"}


def test_a_smaller_draw_at_the_end_of_a_stack_is_a_choice() -> None:
    def build() -> nn.Module:
        model = initialised(4)
        nn.init.normal_(model.get_parameter("3.k.weight"), std=0.001)
        return model

    assert odd(build) == set()


def test_stages_of_other_widths_are_kin() -> None:
    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage1 = nn.ModuleList([Block(32)])
            self.stage2 = nn.ModuleList([Block(48), Block(48)])
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_normal_(layer.weight)
            self.larger(self.stage1[0])

        def larger(self, block: nn.Module) -> None:
            nn.init.normal_(block.get_parameter("q.weight"), std=3 / 32**0.5)

    assert odd(Stages) == {"stage1.0.q.weight"}


@pytest.mark.parametrize("chosen", [0, -1])
def test_a_special_first_or_last_layer_is_a_choice(chosen: int) -> None:
    def build() -> nn.Module:
        model = nn.Sequential(*(nn.Linear(32, 32) for _ in range(4)))
        small(model[chosen])
        return model

    assert odd(build) == set()


def test_scales_that_fall_with_depth_are_a_choice() -> None:
    def build() -> nn.Module:
        model = nn.Sequential(*(nn.Linear(32, 32) for _ in range(6)))
        for i, layer in enumerate(model):
            nn.init.normal_(layer.get_parameter("weight"), std=0.1 / (i + 1))
        return model

    assert odd(build) == set()


def test_orthogonal_siblings_of_equal_scale() -> None:
    def build() -> nn.Module:
        model = nn.GRU(32, 32, num_layers=3)
        for name in ("weight_hh_l0", "weight_hh_l1"):
            nn.init.orthogonal_(model.get_parameter(name))
        return model

    assert odd(build) == {"weight_hh_l2"}


def test_a_block_of_another_width_that_a_loop_misses() -> None:
    def build() -> nn.Module:
        model = nn.ModuleList(Block(width) for width in (32, 48, 64))
        for block in (model[0], model[2]):
            for layer in block.children():
                nn.init.kaiming_normal_(layer.get_parameter("weight"))
        return model

    assert odd(build) == {f"1.{name}.weight" for name in "qkv"}


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = x + self.outer(self.inner(x).tanh())
        return changed


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize(("layer", "found"), [("inner", True), ("outer", False)])
def test_zeros_in_one_block_of_several(block: int, layer: str, found: bool) -> None:
    name = f"{block}.{layer}.weight"

    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(16, 16), *(Residual() for _ in range(3)))
        nn.init.zeros_(model.get_parameter(name))
        return model

    assert empty(build, torch.randn(4, 16)) == ({name} if found else set())


def test_zeros_in_every_block_are_a_choice() -> None:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(16, 16), *(Residual() for _ in range(3)))
        for block in (1, 2, 3):
            nn.init.zeros_(model.get_parameter(f"{block}.inner.weight"))
        return model

    assert empty(build, torch.randn(4, 16)) == set()


@pytest.mark.parametrize(("factor", "found"), [(100, True), (0.01, True), (1.5, False), (0.2, False)])
def test_a_lone_scale_that_no_fan_explains(factor: float, found: bool) -> None:
    def build() -> nn.Module:
        norms = nn.LayerNorm(40), nn.LayerNorm(48), nn.LayerNorm(56)
        widths = (32, 40, 48, 56, 4)
        layers = [nn.Linear(n, m) for n, m in pairwise(widths)]
        model = nn.Sequential(layers[0], norms[0], layers[1], norms[1], layers[2], norms[2], layers[3])
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight)
        with torch.no_grad():
            layers[1].weight.mul_(factor)
        return model

    assert odd(build, torch.randn(4, 32)) == ({"2.weight"} if found else set())


def test_equal_scales_of_other_lines_are_no_oddity() -> None:
    def build() -> nn.Module:
        model = nn.Sequential(*(nn.Linear(32, 32, bias=False) for _ in range(4)))
        for layer in (model[0], model[2], model[3]):
            nn.init.kaiming_uniform_(layer.get_parameter("weight"), a=5**0.5)
        return model

    torch.manual_seed(0)
    assert odd(build) == set()


# ---------------------------------------------------------------- the groupings that siblings are not


def test_a_row_has_members_of_any_shape_and_knows_whether_it_counts_blocks() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6))
            self.blocks = blocks(2)

    model = evidence(Model)
    found = {row.pattern: row for row in rows(model.parameters, "index")}
    assert [t.shape for t in found["layers.{}.weight"].members] == [(8, 4), (6, 8)]
    assert not found["layers.{}.weight"].in_blocks
    assert found["blocks.{}.q.weight"].in_blocks
    assert [row.pattern for row in rows(model.parameters, "block")] == [
        f"blocks.{{}}.{name}.{part}" for name in "qkv" for part in ("weight", "bias")
    ]


def test_beside_a_parameter_are_those_of_the_same_class_and_parent() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.norm = nn.Linear(4, 4), nn.Linear(4, 2), nn.LayerNorm(4)
            self.inner = nn.Sequential(nn.Linear(4, 4))

    model = evidence(Model)
    assert [t.name for t in beside(model, model.by_name["left.weight"])] == ["right.weight"]
    assert beside(model, model.by_name["inner.0.weight"]) == ()


@pytest.mark.parametrize(
    ("local", "parts"),
    [
        ("weight_hh_l0", ("weight_hh", "_l0")),
        ("bias_ih_l12_reverse", ("bias_ih", "_l12_reverse")),
        ("weight", ("weight", "")),
    ],
)
def test_layer_and_direction_of_a_recurrent_parameter(local: str, parts: tuple[str, str]) -> None:
    assert recurrent_part(local) == parts
