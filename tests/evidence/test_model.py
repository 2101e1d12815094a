"""What the records of a model promise."""

from __future__ import annotations

import torch
from listening import evidence
from torch import nn

from initlint import UsedTensor, Weight


class Pruned(nn.Module):
    """A branch of which no unit is left, beside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(torch.empty(8, 0)), nn.Parameter(torch.empty(0, 8))
        self.scale = nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8, 4)
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head((x + x @ self.down @ self.up) * self.scale)
        return y


def test_a_weight_has_a_use_and_statistics_or_is_unseen() -> None:
    model = evidence(Pruned, torch.randn(4, 8))
    assert [t.name for t in model.weights] == ["head.weight"]
    assert [t.name for t in model.unseen] == ["down", "up"]
    assert [t.name for t in model.used_parameters] == ["scale", "head.weight", "head.bias"]


def test_a_tensor_is_one_object_however_it_is_asked_for() -> None:
    model = evidence(Pruned, torch.randn(4, 8))
    for tensor in (*model.weights, *model.used_parameters, *model.unseen):
        assert model.by_name[tensor.name] is tensor


def test_a_bias_and_its_weight_lead_to_each_other() -> None:
    model = evidence(lambda: nn.Linear(4, 4), torch.randn(4, 4))
    weight, bias = model.by_name["weight"], model.by_name["bias"]
    assert isinstance(weight, Weight)
    assert isinstance(bias, UsedTensor)
    assert (model.bias_of(weight), model.weight_of(bias)) == (bias, weight)
    assert (model.weight_of(weight), model.bias_of(bias)) == (None, None)
