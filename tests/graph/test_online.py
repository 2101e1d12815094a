"""What is told of a node while the graph is still being recorded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from called import Model
from torch import nn
from torch.nn import functional

from initlint.graph import aten
from initlint.graph.online import OnlineGraph, shape_of
from initlint.graph.recorder import GraphRecorder


class Online:
    """An online graph after one run, with the nodes by the name of their operator."""

    def __init__(self, model: nn.Module, *inputs: torch.Tensor) -> None:
        with GraphRecorder(model) as recorder:
            given = recorder.begin(inputs, {})
            recorder.finish(model(*inputs))
        self.graph = OnlineGraph()
        self.axes: dict[str, int] = {}
        for node, tensor in given:
            self.graph.add_input(node)
            self.graph.input_axis(node, tensor.dim())
        self.nodes = {}
        for node in recorder.graph.nodes:
            if node.op == "call_function":
                name = aten.operation(node.target)
                self.nodes[name] = node
                self.axes[name] = self.graph.unit_axis(node, name, shape_of(node))

    def kind(self, name: str) -> str | None:
        return self.graph.kind(self.nodes[name], name)


def test_what_no_input_reaches_is_no_signal() -> None:
    def positioned(m: Any, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = m.layer(x) + m.table.tanh()
        return hidden

    model = Model(positioned, layer=nn.Linear(8, 8), table=nn.Parameter(torch.ones(4, 8)))
    online = Online(model, torch.randn(4, 8))
    assert {name: online.graph.is_data(node) for name, node in online.nodes.items()} == {
        "aten.t": False,
        "aten.addmm": True,
        "aten.tanh": False,
        "aten.add": True,
    }
    assert [online.kind(name) for name in online.nodes] == [None, "weight", None, "add"]
    assert online.graph.weights(online.nodes["aten.addmm"]) == ("layer.bias", "layer.weight")
    assert online.graph.weights(online.nodes["aten.add"]) == ("table",)


def test_without_an_input_everything_is_read() -> None:
    online = Online(Model(lambda m: m.table.tanh(), table=nn.Parameter(torch.ones(4, 8))))
    assert online.kind("aten.tanh") == "activation"


def test_a_product_of_data_is_no_weight() -> None:
    online = Online(Model(lambda m, x, y: x @ y), torch.randn(4, 8), torch.randn(8, 2))
    assert online.kind("aten.mm") == "other"


@pytest.mark.parametrize(
    ("forward", "shape", "axes"),
    [
        (lambda m, x: m.conv(x).relu().flatten(2), (2, 3, 6, 6), {"aten.convolution": 1, "aten.relu": 1}),
        (lambda m, x: m.conv(x).permute(0, 2, 3, 1), (2, 3, 6, 6), {"aten.permute": 3}),
        (lambda m, x: m.conv(x).mean((2, 3)).relu(), (2, 3, 6, 6), {"aten.mean": 1, "aten.relu": 1}),
        (lambda m, x: functional.linear(x, m.weight).relu(), (2, 5, 3), {"aten.mm": 1, "aten.relu": 2}),
        (lambda m, x: m.weight @ x, (3, 7), {"aten.mm": 0}),
    ],
)
def test_units_are_followed(forward: Any, shape: tuple[int, ...], axes: dict[str, int]) -> None:
    held = {"conv": nn.Conv2d(3, 4, 3), "weight": nn.Parameter(torch.ones(4, 3))}
    online = Online(Model(forward, **held), torch.randn(shape))
    assert {name: online.axes[name] for name in axes} == axes
