"""What a write and the lines around it are recorded as."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from initlint.construct import Construction, construct
from initlint.evidence import Write


def built(build: Callable[[], nn.Module]) -> Construction:
    return construct(lambda: build, seed=0)


def last(change: Callable[[nn.Linear], object]) -> Write:
    """The last write to the weight of a layer that was changed after it was made."""

    def build() -> nn.Module:
        layer = nn.Linear(4, 4)
        with torch.no_grad():
            change(layer)
        return layer

    write = built(build).provenance["weight"].last_write
    assert write is not None
    return write


def replaced(value: Callable[[], torch.Tensor]) -> Callable[[nn.Linear], object]:
    return lambda layer: setattr(layer, "weight", nn.Parameter(value()))


def first_row(layer: nn.Linear) -> None:
    layer.weight[0] = torch.ones(4)


def other_state(layer: nn.Linear) -> None:
    layer.load_state_dict(nn.Linear(4, 4).state_dict())


@pytest.mark.parametrize(
    ("change", "via", "function"),
    [
        (lambda layer: None, "constructor", "kaiming_uniform_"),
        (lambda layer: layer.reset_parameters(), "reset", "reset_parameters"),
        (lambda layer: nn.init.xavier_normal_(layer.weight), "initialiser", "xavier_normal_"),
        (lambda layer: layer.weight.normal_(0, 0.02), "initialiser", "normal_"),
        (lambda layer: layer.weight.zero_(), "initialiser", "zero_"),
        (lambda layer: layer.weight.mul_(0.5), "arithmetic", "mul_"),
        (first_row, "assignment", "__setitem__"),
        (lambda layer: layer.weight.copy_(torch.eye(4)), "copy", "copy_"),
        (other_state, "load", "load_state_dict"),
        (replaced(lambda: torch.randn(4, 4)), "allocation", "randn"),
        (replaced(lambda: torch.randn(4, 4) / 2), "allocation", "div"),
        (replaced(lambda: torch.from_numpy(np.eye(4))), "allocation", "from_numpy"),
        (replaced(lambda: nn.Linear(4, 4).weight.detach().clone()), "clone", "clone"),
        (replaced(lambda: copy.deepcopy(nn.Linear(4, 4)).weight), "clone", "deepcopy"),
    ],
)
def test_how_values_came_in(change: Callable[[nn.Linear], object], via: str, function: str) -> None:
    write = last(change)
    assert (write.via, write.function) == (via, function)
    assert write.default == (via == "constructor")


def test_a_table_by_an_alias_is_an_allocation() -> None:
    table = torch.tensor
    write = last(replaced(lambda: table([[0.1, 0.2], [0.3, 0.4]])))
    assert (write.operation, write.via) == ("table", "allocation")


def test_a_state_dict_of_the_same_build_restores_but_was_not_loaded() -> None:
    def build() -> nn.Module:
        layer = nn.Linear(4, 4)
        other_state(layer)
        return layer

    provenance = built(build).provenance["weight"]
    assert provenance.last_write is not None
    assert provenance.last_write.restores
    assert not provenance.loaded


def test_numbers_of_a_draw_that_stand_in_its_file() -> None:
    width = 4
    assert last(lambda layer: nn.init.normal_(layer.weight, std=0.03125)).literal >= {0.03125}
    assert 1 / (width + 7.3) not in last(lambda layer: layer.weight.normal_(0, 1 / (width + 7.3))).literal
    assert 0.125 in last(replaced(lambda: torch.randn(4, 4) / 8)).literal
    assert last(lambda layer: layer.weight.mul_(0.03125)).literal == frozenset()


class Extended(nn.Module):
    """A network whose head is made after the initialiser ran."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))


def zeroed(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.weight)


def extended() -> nn.Module:
    model = Extended()
    model.apply(zeroed)
    model.head = nn.Linear(4, 2)
    return model


def complete() -> nn.Module:
    model = Extended()
    model.head = nn.Linear(4, 2)
    return model.apply(zeroed)


def test_statements_of_a_function_that_makes_layers_after_its_initialiser() -> None:
    statements = built(extended).statements
    said = {(site.function, text.extends, text.works_on) for site, text in statements.items()}
    assert said == {
        ("extended", "model", frozenset({"nn"})),
        ("extended", "model", frozenset({"model", "zeroed"})),
    }


def test_no_other_function_is_read() -> None:
    assert built(complete).statements == {}


@pytest.mark.parametrize(("comment", "speaks"), [("under a focal loss", True), ("under a softmax", False)])
def test_a_file_that_speaks_of_sigmoids(tmp_path: Path, comment: str, speaks: bool) -> None:
    path = tmp_path / "head.py"
    path.write_text(f"from torch import nn\n\ndef head():  # {comment}\n    return nn.Linear(4, 2)\n")
    names: dict[str, Callable[[], nn.Module]] = {}
    exec(compile(path.read_text(), path, "exec"), names)
    (module,) = built(names["head"]).modules
    assert module.sigmoid is speaks
