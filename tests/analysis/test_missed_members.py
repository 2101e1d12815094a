"""Families of parameters of which an initialiser missed some members."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from listening import evidence
from torch import nn

from initlint import registry
from initlint.analysis.missed_members import gaps, is_default, placeholders, twins, uncalled_initialisers
from initlint.engine.examine import examine


def missed(build: Callable[[], nn.Module]) -> dict[str, set[str]]:
    """Names of what was missed, by kind of gap."""
    found: dict[str, set[str]] = {}
    for gap in gaps(evidence(build)):
        found.setdefault(gap.kind, set()).update(tensor.name for tensor in gap.missed)
    return found


def recurrent(*initialised: str) -> nn.Module:
    model = nn.LSTM(8, 16, num_layers=2, bidirectional=True)
    for name, parameter in model.named_parameters():
        if name in initialised:
            nn.init.orthogonal_(parameter)
    return model


def test_layers_and_directions_of_a_recurrent_module() -> None:
    names = ["weight_hh_l0", "weight_hh_l0_reverse", "weight_hh_l1", "weight_hh_l1_reverse"]
    assert missed(lambda: recurrent(*names)) == {}
    assert missed(lambda: recurrent(*names[::2])) == {"recurrent": {names[1], names[3]}}
    assert missed(lambda: recurrent()) == {}


def closed(*names: str) -> nn.Module:
    model = nn.GRU(8, 16, num_layers=2)
    for name in names:
        nn.init.zeros_(model.get_parameter(name))
    return model


def test_a_recurrent_matrix_of_one_value_is_the_odd_one_and_a_bias_is_not() -> None:
    assert missed(lambda: closed("weight_hh_l1")) == {"constant": {"weight_hh_l0"}}
    assert missed(lambda: closed("bias_hh_l0")) == {"recurrent": {"bias_hh_l1"}}
    rules = [rule() for rule in registry.load().rules if rule.code == "IL304"]
    found = examine("model", lambda: lambda: closed("weight_hh_l1"), rules).findings
    assert [(f.subject, f.related, f.severity) for f in found] == [
        ("weight_hh_l1", ("weight_hh_l0",), "note")
    ]


def test_what_one_cell_lacks_is_one_gap() -> None:
    def build(others: tuple[str, ...]) -> nn.Module:
        cells = nn.ModuleList(nn.GRUCell(8, 8) for _ in range(3))
        nn.init.orthogonal_(cells[0].get_parameter("weight_hh"))
        nn.init.xavier_uniform_(cells[0].get_parameter("weight_ih"))
        for name in others:
            nn.init.zeros_(cells[0].get_parameter(name))
        return cells

    (gap,) = gaps(evidence(lambda: build(("bias_ih", "bias_hh"))))
    assert {tensor.name for tensor in gap.missed} == {
        f"{i}.{name}_{part}" for i in (1, 2) for name in ("weight", "bias") for part in ("ih", "hh")
    }
    assert len({write.site.line for write in (gap.write, *gap.others)}) == 3


def test_different_layers_missed_by_different_lines_are_two_gaps() -> None:
    def build() -> nn.Module:
        model = nn.LSTM(8, 16, num_layers=2)
        nn.init.orthogonal_(model.get_parameter("weight_hh_l0"))
        nn.init.ones_(model.get_parameter("bias_ih_l1"))
        return model

    missing = [[tensor.name for tensor in gap.missed] for gap in gaps(evidence(build))]
    assert missing == [["weight_hh_l1"], ["bias_ih_l0"]]


def listed(count: int, left_out: int) -> nn.ModuleList:
    layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(count))
    for index, layer in enumerate(layers):
        if index != left_out:
            nn.init.xavier_uniform_(layer.get_parameter("weight"))
    return layers


def test_an_inner_member_of_a_list_is_missed_and_an_outer_one_may_differ() -> None:
    assert missed(lambda: listed(5, 2)) == {"index": {"2.weight"}}
    assert missed(lambda: listed(5, 0)) == {}
    assert missed(lambda: listed(5, 4)) == {}


class Late(nn.Module):
    """Makes one layer after the initialiser ran, or before."""

    def __init__(self, late: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        if not late:
            self.head = nn.Linear(8, 2)
        self.apply(self.draw)
        if late:
            self.head = nn.Linear(8, 2)

    def draw(self, module: nn.Module) -> None:
        """Xavier for linear layers."""
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)


def test_a_layer_that_is_made_after_the_initialiser() -> None:
    assert missed(lambda: Late(late=True)) == {"later": {"head.weight"}}
    assert missed(lambda: Late(late=False)) == {}


class Looped(nn.Module):
    """Runs a loop over itself, or over a part, before the last layer is there."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        if whole:
            for module in self.modules():
                self.draw(module)
        else:
            for module in self.body.modules():
                self.draw(module)
        self.head = nn.Linear(8, 2)

    @staticmethod
    def draw(module: nn.Module) -> None:
        """Xavier for linear layers."""
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)


def test_a_layer_is_not_missed_by_a_loop_over_another_part() -> None:
    assert missed(lambda: Looped(whole=True)) == {"later": {"head.weight"}}
    assert missed(lambda: Looped(whole=False)) == {}


def with_a_head(body: nn.Module) -> nn.Module:
    for parameter in body.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return nn.Sequential(body, nn.Linear(8, 2))


def with_another_last_layer(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    model.last = nn.Linear(8, 2)
    return model


def test_a_layer_is_not_missed_where_a_body_was_initialised_before_a_head_was_put_on() -> None:
    def body() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

    assert missed(lambda: with_a_head(body())) == {}
    assert missed(lambda: with_another_last_layer(body())) == {"later": {"last.weight"}}


def drawn(layer: nn.Linear) -> nn.Linear:
    nn.init.orthogonal_(layer.weight)
    return layer


def drawn_as_they_are_made(draw: Callable[[nn.Linear], nn.Linear] = drawn) -> nn.Sequential:
    body = [draw(nn.Linear(8, 8)) for _ in range(3)]
    return nn.Sequential(*body, nn.Linear(8, 2))


def test_a_layer_made_after_others_that_were_drawn_one_by_one_is_not_missed() -> None:
    assert missed(drawn_as_they_are_made) == {}


def test_defaults_are_told_from_explicit_draws() -> None:
    model = evidence(lambda: listed(3, 1))
    assert [is_default(model.by_name[f"{i}.weight"]) for i in range(3)] == [False, True, False]


class Resettable(nn.Module):
    """Knows how to initialise itself, and may forget to."""

    def __init__(self, calls: bool) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)
        if calls:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier."""
        nn.init.xavier_uniform_(self.inner.weight)


def test_an_initialiser_that_nobody_calls() -> None:
    (found,) = uncalled_initialisers(evidence(lambda: nn.Sequential(nn.Linear(8, 8), Resettable(False))))
    assert (found.module.path, [t.name for t in found.parameters]) == ("1", ["1.inner.weight"])
    assert (
        list(uncalled_initialisers(evidence(lambda: nn.Sequential(Resettable(True), nn.Linear(8, 8))))) == []
    )


class Pair(nn.Module):
    """Encoder and decoder."""

    def __init__(self, both: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 4))
        self.decoder = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 16))
        for part in (self.encoder, self.decoder) if both else (self.encoder,):
            for layer in part:
                nn.init.xavier_uniform_(layer.get_parameter("weight"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Back to the input."""
        y: torch.Tensor = self.decoder(self.encoder(x))
        return y


def test_of_two_mirrored_modules_one_was_initialised() -> None:
    (found,) = twins(evidence(lambda: Pair(both=False)))
    assert (found.initialised.path, found.other.path) == ("encoder", "decoder")
    assert list(twins(evidence(lambda: Pair(both=True)))) == []


class Scan(nn.Module):
    """Two decays that go through the same functions, and a gate that does not."""

    def __init__(self, *written: str) -> None:
        super().__init__()
        self.A_log, self.A_b_log = nn.Parameter(torch.zeros(8)), nn.Parameter(torch.zeros(8))
        self.A_gate = nn.Parameter(torch.zeros(8))
        with torch.no_grad():
            for name in written:
                self.get_parameter(name).copy_(torch.arange(1.0, 9).log())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * -self.A_log.exp() + x.flip(0) * -self.A_b_log.exp() + x * self.A_gate


@pytest.mark.parametrize(
    ("written", "left"), [(("A_log",), {"A_b_log"}), (("A_log", "A_b_log"), set()), (("A_gate",), set())]
)
def test_a_placeholder_beside_a_twin_that_is_used_alike(written: tuple[str, ...], left: set[str]) -> None:
    model = evidence(lambda: Scan(*written), torch.ones(2, 8))
    assert {found.left.name for found in placeholders(model)} == left


class Table(nn.Module):
    """A table that its constructor leaves at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3, 8))


@pytest.mark.parametrize(("written", "left"), [(0, {"1.table", "2.table"}), (2, set())])
def test_the_last_of_a_row_of_placeholders_may_differ(written: int, left: set[str]) -> None:
    def build() -> nn.Module:
        tables = nn.ModuleList(Table() for _ in range(3))
        nn.init.normal_(tables[written].get_parameter("table"))
        return tables

    assert {found.left.name for found in placeholders(evidence(build))} == left


def test_a_twin_that_was_set_to_another_constant_tells_of_no_placeholder() -> None:
    def build() -> nn.Module:
        tables = nn.ModuleDict({"near": Table(), "far": Table()})
        nn.init.ones_(tables["near"].get_parameter("table"))
        return tables

    assert not list(placeholders(evidence(build)))


def test_blocks_that_close_themselves_miss_nothing() -> None:
    class Block(nn.Module):
        def __init__(self, closed: bool) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
            if closed:
                nn.init.zeros_(self.layers[1].get_parameter("weight"))

    assert missed(lambda: nn.ModuleList(Block(i == 0) for i in range(4))) == {}


def test_one_block_closed_after_all_were_made() -> None:
    def build() -> nn.Module:
        blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)) for _ in range(3))
        nn.init.zeros_(blocks.get_parameter("0.1.weight"))
        return blocks

    assert missed(build) == {"closed": {"1.1.weight", "2.1.weight"}}
