"""The passes over a recorded graph, one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from called import Model
from torch import nn
from torch.nn import functional

from initlint.graph.activations import find_activations, find_following
from initlint.graph.recorder import GraphRecorder, Trace
from initlint.graph.residuals import find_residuals
from initlint.graph.state import GraphState, NodeState, Stored
from initlint.graph.usage import usage
from initlint.graph.walk import walk


def walked(model: nn.Module, *inputs: torch.Tensor) -> GraphState:
    """The graph of one run on `inputs`, or on a batch of four vectors, after the first pass."""
    given = inputs or (torch.randn(4, 8),)
    with GraphRecorder(model) as recorder:
        recorder.begin(given, {})
        recorder.finish(model(*given))
    stored = {
        name: Stored(name, tuple(tensor.shape), isinstance(tensor, nn.Parameter), name.rpartition(".")[0])
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    graph = GraphState(recorder.graph, stored)
    walk(graph)
    return graph


def along(model: nn.Module) -> GraphState:
    graph = walked(model)
    find_activations(graph)
    return graph


def against(model: nn.Module) -> GraphState:
    graph = along(model)
    find_following(graph)
    return graph


def node_of(graph: GraphState, weight: str) -> NodeState:
    """The node at which a parameter meets the data."""
    (node,) = [node for node in graph.nodes if weight in node.weights]
    return node


# ---------------------------------------------------------------- walk


def test_data_is_what_depends_on_an_input() -> None:
    graph = walked(Model(lambda m, x: x + (m.w * 2).exp(), w=nn.Parameter(torch.ones(8))))
    assert [(n.operator, n.data, bool(n.layouts)) for n in graph.nodes] == [
        ("placeholder", True, False),
        ("get_attr", False, True),
        ("aten.mul", False, True),
        ("aten.exp", False, True),
        ("aten.add", True, False),
        ("output", True, False),
    ]


def test_indices_do_not_flow() -> None:
    x = torch.randn(4, 8)
    graph = walked(Model(lambda m, x, i: x.index_select(0, i)), x, torch.tensor([1, 0]))
    (picked,) = [n for n in graph.nodes if n.operator == "aten.index_select"]
    assert [n.fx.name for n in picked.before] == ["arg0", "arg1"]
    assert [n.fx.name for n in picked.flowing] == ["arg0"]


def test_a_sum_of_products_contracts_as_a_matrix_does() -> None:
    graph = walked(Model(lambda m, x: (x * m.w).sum(-1), w=nn.Parameter(torch.ones(8))))
    (total,) = [n for n in graph.nodes if n.operator == "aten.sum"]
    assert (total.contracts, total.weights) == (True, ("w",))
    meetings = {meeting.node.operator: meeting for meeting in graph.meetings}
    assert meetings["aten.mul"].role == "multiply"
    assert (meetings["aten.sum"].role, meetings["aten.sum"].facts["fan_in"]) == ("matrix", 8)


def test_a_number_has_no_axes_to_sum() -> None:
    graph = walked(Model(lambda m, x: (x.mean() * m.w).sum(0), w=nn.Parameter(torch.ones(()))))
    assert not any(node.contracts for node in graph.nodes)


def test_a_product_of_weights_is_a_weight() -> None:
    def low_rank(m: Any, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, m.up @ m.down)

    held = {"up": nn.Parameter(torch.ones(6, 2)), "down": nn.Parameter(torch.ones(2, 8))}
    graph = walked(Model(low_rank, **held))
    facts = {meeting.tensor: meeting.facts for meeting in graph.meetings}
    assert {name: (f["fan_in"], f["fan_out"]) for name, f in facts.items()} == {"up": (2, 6), "down": (8, 2)}


def test_outputs_are_cut_where_they_are_split() -> None:
    graph = walked(Model(lambda m, x: sum(m.fused(x).chunk(3, -1)), fused=nn.Linear(8, 12)))
    assert graph.cuts == {"fused.weight": {0, 4, 8, 12}}
    assert [node.cut.ends for node in graph.nodes if node.cut] == [(0, 4), (4, 8), (8, 12)]


def test_halves_that_are_joined_again_are_no_parts() -> None:
    def rotated(m: Any, x: torch.Tensor) -> torch.Tensor:
        first, second = m.layer(x).chunk(2, -1)
        return torch.cat([-second, first], -1)

    assert walked(Model(rotated, layer=nn.Linear(8, 12))).cuts == {"layer.weight": set()}


# ---------------------------------------------------------------- activations


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x.clamp(min=0), "relu"),
        (lambda x: x.clamp(0, 6), "relu6"),
        (lambda x: x * x.sigmoid(), "silu"),
        (lambda x: x * (1.702 * x).sigmoid(), "gelu"),
        (lambda x: 0.5 * x * (1 + (x / 2**0.5).erf()), "gelu"),
        (lambda x: x * functional.softplus(x).tanh(), "mish"),
        (lambda x: torch.where(x > 0, x, 0.1 * x), "leaky_relu"),
        (functional.selu, "selu"),
    ],
)
def test_activations_that_are_spelled_out(function: Any, name: str) -> None:
    graph = along(Model(lambda m, x: function(m.layer(x)), layer=nn.Linear(8, 8)))
    assert [n.activation for n in graph.nodes if n.activation and not n.partial] == [name]


def test_a_gate_of_another_tensor_is_no_activation_of_this_one() -> None:
    graph = along(Model(lambda m, x: m.a(x) * m.b(x).sigmoid(), a=nn.Linear(8, 8), b=nn.Linear(8, 8)))
    assert [n.activation for n in graph.nodes if n.activation] == ["sigmoid"]
    assert not any(n.partial for n in graph.nodes)


@pytest.mark.parametrize(
    "function",
    [
        nn.LayerNorm(8, elementwise_affine=False),
        lambda x: x / x.norm(dim=-1, keepdim=True),
        lambda x: (x - x.mean(-1, True)) * (x.var(-1, keepdim=True) + 1e-5).rsqrt(),
    ],
)
def test_normalisations(function: Any) -> None:
    graph = along(Model(lambda m, x: m.b(function(m.a(x))), a=nn.Linear(8, 8), b=nn.Linear(8, 8)))
    (norm,) = [n for n in graph.nodes if n.norm]
    assert norm.normalised
    assert not node_of(graph, "a.weight").normalised
    assert not node_of(graph, "b.weight").normalised


def test_a_gain_in_front_of_the_division() -> None:
    def norm(m: Any, x: torch.Tensor) -> torch.Tensor:
        h = m.a(x)
        scaled: torch.Tensor = m.gain * (h - h.mean(-1, True)) / (h.std(-1, keepdim=True) + 1e-6)
        return scaled

    graph = along(Model(norm, a=nn.Linear(8, 8), gain=nn.Parameter(torch.ones(8))))
    assert node_of(graph, "gain").gained


def test_depth_counts_weights() -> None:
    graph = along(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)))
    assert [node_of(graph, name).depth for name in ("0.weight", "2.weight")] == [1, 2]


# ---------------------------------------------------------------- following


def test_what_follows_a_weight() -> None:
    layers = {"a": nn.Linear(8, 8), "b": nn.Linear(8, 8), "norm": nn.LayerNorm(8), "head": nn.Linear(8, 2)}
    graph = against(Model(lambda m, x: m.head(m.norm(m.b(m.a(x).tanh()))), **layers))
    seen = {name: node_of(graph, f"{name}.weight") for name in layers}
    assert {name: node.following for name, node in seen.items()} == {
        "a": "tanh",
        "b": "none",
        "norm": "none",
        "head": "none",
    }
    assert [name for name, node in seen.items() if node.normalised_after] == ["b"]
    assert [name for name, node in seen.items() if node.reaches_output] == ["head"]


def test_queries_and_keys_are_followed_by_a_softmax() -> None:
    def attend(m: Any, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(x).unsqueeze(0) for layer in (m.q, m.k, m.v))
        return functional.scaled_dot_product_attention(q, k, v)

    graph = against(Model(attend, q=nn.Linear(8, 8), k=nn.Linear(8, 8), v=nn.Linear(8, 8)))
    assert [node_of(graph, f"{n}.weight").following for n in "qkv"] == ["softmax", "softmax", "none"]


# ---------------------------------------------------------------- residuals


def residuals(model: nn.Module) -> tuple[GraphState, list[str]]:
    """The graph after all passes, and the parameters that end a branch, biases aside."""
    graph = against(model)
    find_residuals(graph)
    ends = [name for node in graph.nodes if node.ends_residual for name in node.weights]
    return graph, [name for name in ends if not name.endswith("bias")]


def test_a_branch_is_added_to_its_own_source() -> None:
    model = Model(lambda m, x: x + m.b(m.a(x).relu()), a=nn.Linear(8, 8), b=nn.Linear(8, 8))
    graph, ends = residuals(model)
    (addition,) = [node for node in graph.nodes if node.residual]
    branch, stream = addition.residual or (None, None)
    assert (branch, stream) == (node_of(graph, "b.weight"), graph.nodes[0])
    assert ends == ["b.weight"]


def test_scales_behind_the_last_weight_end_the_branch_too() -> None:
    held = {"a": nn.Linear(8, 8), "scale": nn.Parameter(torch.ones(8))}
    assert residuals(Model(lambda m, x: x + m.scale * m.a(x), **held))[1] == ["a.weight", "scale"]


def test_a_stream_that_is_projected_once() -> None:
    held = {name: nn.Linear(8, 8) for name in "abc"}
    graph, ends = residuals(Model(lambda m, x: m.b(m.a(x).relu()) + m.c(x), **held))
    assert (sum(node.residual is not None for node in graph.nodes), ends) == (1, ["b.weight", "c.weight"])


def test_two_branches_side_by_side_are_no_residual() -> None:
    graph, ends = residuals(Model(lambda m, x: m.a(x) + m.b(x), a=nn.Linear(8, 8), b=nn.Linear(8, 8)))
    assert not any(node.residual for node in graph.nodes)
    assert ends == []


def test_without_a_graph_only_declared_uses_are_known() -> None:
    found = usage(Trace(None, "none", "no reason"), nn.Linear(8, 4))
    assert {name: use.role for name, use in found.uses.items()} == {"weight": "matrix", "bias": "shift"}
    assert (found.nodes, found.outputs) == ({}, ())
