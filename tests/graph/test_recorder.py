"""The recorded and the symbolic graph: names, views, in-place writes, sources and odd ways to compute."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from called import Model
from torch import fx, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from initlint.graph.recorder import GraphRecorder, symbolic

aten = torch.ops.aten


def record(model: nn.Module, *args: Any, **kwargs: Any) -> GraphRecorder:
    with GraphRecorder(model) as recorder:
        recorder.begin(args, kwargs)
        recorder.finish(model(*args, **kwargs))
    recorder.graph.lint()
    return recorder


def calls(graph: fx.Graph) -> list[str]:
    return [str(n.target).removeprefix("aten.") for n in graph.nodes if n.op == "call_function"]


def only(graph: fx.Graph, target: Any) -> Any:
    """The one node with this target."""
    (node,) = [n for n in graph.nodes if n.target == target]
    return node


def results(graph: fx.Graph) -> Any:
    """The nodes that leave the model."""
    return graph.output_node().args[0]


def stored(graph: fx.Graph) -> list[str]:
    return [str(n.target) for n in graph.nodes if n.op == "get_attr"]


def sources(node: fx.Node) -> set[str]:
    """Names of everything a node is computed from."""
    found, stack = set(), [node]
    while stack:
        for source in stack.pop().all_input_nodes:
            found.add(str(source.target) if source.op != "call_function" else source.name)
            stack.append(source)
    return found


def replay(recorder: GraphRecorder, model: nn.Module, *inputs: torch.Tensor) -> Any:
    """Run the graph itself; its result must be the model's."""
    values: dict[fx.Node, Any] = {}
    given = iter(inputs)
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for node in recorder.graph.nodes:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            values[node] = held[str(node.target)]
        elif node.op == "output":
            return args[0]
        else:
            values[node] = node.target(*args, **kwargs)
    return None


def test_linear_is_a_product_with_named_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    graph = record(model, torch.randn(2, 3)).graph
    assert calls(graph) == ["t.default", "addmm.default", "relu.default"]
    product = only(graph, aten.addmm.default)
    bias, x, weight = product.args
    assert (bias.target, x.op, weight.args[0].target) == ("0.bias", "placeholder", "0.weight")
    assert product.meta["shape"] == (2, 4)
    assert product.meta["dtype"] == torch.float32
    assert product.meta["module"] == "0"


def test_the_site_is_the_line_of_the_model_that_ran_it() -> None:
    model = Model(lambda self, x: self.inner(x).relu(), inner=nn.Linear(3, 4))
    graph = record(model, torch.randn(2, 3)).graph
    sites = [only(graph, f.default).meta["site"] for f in (aten.addmm, aten.relu)]
    assert {(site.file, site.function) for site in sites} == {(__file__, "<lambda>")}
    assert sites[0].line == model.function.__code__.co_firstlineno


def test_tied_parameters_have_their_first_name() -> None:
    table = nn.Embedding(5, 3)
    head = nn.Linear(3, 5, bias=False)
    head.weight = table.weight
    graph = record(
        Model(lambda self, i: self.head(self.table(i)), table=table, head=head), torch.arange(4)
    ).graph
    assert stored(graph) == ["table.weight"]
    assert len(only(graph, "table.weight").users) == 2


@pytest.mark.parametrize(
    "read",
    [
        lambda w: w.data,
        lambda w: w.detach(),
        lambda w: w.view_as(w),
        lambda w: w.detach().requires_grad_(),
        lambda w: nn.Parameter(w),
    ],
    ids=["data", "detach", "view_as", "leaf", "parameter"],
)
def test_an_alias_of_a_parameter_is_the_parameter(read: Callable[[torch.Tensor], torch.Tensor]) -> None:
    model = Model(lambda self, x: x @ read(self.w), w=nn.Parameter(torch.randn(3, 3)))
    graph = record(model, torch.randn(2, 3)).graph
    product = only(graph, aten.mm.default)
    assert product.args[1].target == "w"


def test_a_view_taken_before_the_run_is_a_view_of_the_parameter() -> None:
    weight = nn.Parameter(torch.randn(6, 3))
    model = Model(lambda self, x: x @ self.parts[0], w=weight, parts=[weight.detach()[3:]])
    graph = record(model, torch.randn(2, 3)).graph
    view = only(graph, aten.mm.default).args[1]
    assert view.target is aten.as_strided.default
    assert view.args[0].target == "w"
    assert view.meta["shape"] == (3, 3)


def test_parametrised_weights_flow_from_their_originals() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(3, 4)))
    graph = record(model, torch.randn(2, 3)).graph
    found = sources(only(graph, aten.addmm.default))
    assert {"0.parametrizations.weight.original0", "0.parametrizations.weight.original1"} <= found


def test_parameter_lists_keep_their_names() -> None:
    model = Model(
        lambda self, x: x @ self.ws[0] @ self.ws[1],
        ws=nn.ParameterList([torch.randn(3, 3), torch.randn(3, 3)]),
    )
    assert stored(record(model, torch.randn(2, 3)).graph) == ["ws.0", "ws.1"]


def test_functional_call_reads_the_tensors_it_is_given() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        generated = {"weight": self.base.weight * 2, "bias": self.base.bias}
        return torch.func.functional_call(self.base, generated, (x,))

    graph = record(Model(forward, base=nn.Linear(3, 4)), torch.randn(2, 3)).graph
    doubled = only(graph, aten.addmm.default).args[2].args[0]
    assert doubled.target is aten.mul.Tensor


def test_an_inplace_activation_stands_for_its_tensor() -> None:
    model = Model(lambda self, x: (self.f(x).relu_(), x)[0] + 1, f=nn.Linear(3, 4))
    graph = record(model, torch.randn(2, 3)).graph
    assert only(graph, aten.add.Tensor).args[0].target is aten.relu_.default


def test_a_write_through_a_view_is_seen_by_the_base() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        y = x * 1
        y.view(-1).add_(1)
        return y * 2

    model, x = Model(forward), torch.randn(2, 3)
    recorder = record(model, x)
    base = results(recorder.graph)[0].args[0]
    assert base.target is aten.view.default
    assert base.args[0].target is aten.add_.Tensor
    torch.testing.assert_close(replay(recorder, model, x)[0], model(x))


def test_a_write_to_a_part_keeps_the_rest() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        out = torch.zeros(2, 4)
        out[:, :3] = x @ self.w
        out[:, 3] = x.sum(1)
        return out.t() * 2

    model, x = Model(forward, w=nn.Parameter(torch.randn(3, 3))), torch.randn(2, 3)
    recorder = record(model, x)
    (result,) = results(recorder.graph)
    assert {"w", "arg0"} <= sources(result)
    torch.testing.assert_close(replay(recorder, model, x)[0], model(x))


def test_a_view_taken_before_a_write_sees_it() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        y = x + 0
        row = y[0]
        y.mul_(3)
        return row + 1

    model, x = Model(forward), torch.randn(2, 3)
    recorder = record(model, x)
    (result,) = results(recorder.graph)
    assert "mul_" in sources(result)
    torch.testing.assert_close(replay(recorder, model, x)[0], model(x))


def test_memory_that_was_freed_is_not_mistaken_for_another_tensor() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        for _ in range(50):
            x = x * 1.5
            x = x + 1
        return x

    graph = record(Model(forward), torch.randn(2, 3)).graph
    chain = [n for n in graph.nodes if n.op == "call_function"]
    assert all(b.args[0] is a for a, b in pairwise(chain))


def test_several_outputs_are_items_of_their_operator() -> None:
    model = Model(lambda self, x: x.chunk(2, 1)[1] * 2)
    graph = record(model, torch.randn(2, 4)).graph
    item = only(graph, aten.mul.Tensor).args[0]
    assert (item.args[0].target, item.args[1]) == (aten.split.Tensor, 1)
    assert item.args[0].meta["shape"] == ((2, 2), (2, 2))
    assert item.meta["shape"] == (2, 2)


def test_tensors_from_outside_are_leaves_with_a_site() -> None:
    hidden = nn.Linear(3, 3)
    model = Model(lambda self, x: self.layers[0](x) + self.shift + torch.tensor(1.0), layers=[hidden])
    model.shift = torch.randn(3)
    recorder = record(model, torch.randn(2, 3))
    found = {id(leaf.tensor): leaf for leaf in recorder.leaves}
    assert {id(hidden.weight), id(hidden.bias), id(model.shift)} <= set(found)
    assert all(leaf.site is not None and leaf.site.file == __file__ for leaf in recorder.leaves)
    assert [leaf.literal for leaf in recorder.leaves].count(True) == 1
    assert not any(leaf.created for leaf in recorder.leaves)
    node = found[id(hidden.weight)].node
    assert str(node.target).startswith("<unregistered>.")
    assert node.meta["tensor"]["requires_grad"]


def test_parameters_made_during_the_run_are_told_apart() -> None:
    recorder = record(Model(lambda self, x: nn.Linear(3, 2)(x)), torch.randn(2, 3))
    assert [leaf.created for leaf in recorder.leaves] == [True, True]
    assert {made.name for made in recorder.made.values()} == {"weight", "bias"}
    assert all(made.module_path is None for made in recorder.made.values())


def test_module_calls_are_counted_by_first_path() -> None:
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    recorder = record(model, torch.randn(2, 3))
    assert recorder.calls == {"": 1, "0": 2, "1": 1}


def test_an_exception_that_the_model_catches_does_not_shift_the_paths() -> None:
    class Fails(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError

    def forward(self: Any, x: torch.Tensor) -> Any:
        try:
            self.bad(x)
        except ValueError:
            return self.good(x).relu()

    graph = record(Model(forward, bad=Fails(), good=nn.Linear(3, 3)), torch.randn(2, 3)).graph
    assert only(graph, aten.addmm.default).meta["module"] == "good"
    final = [n for n in graph.nodes if n.op == "call_function"][-1]
    assert final.meta["module"] in ("", "bad")


def test_the_hooks_are_gone_afterwards() -> None:
    hooks = torch.nn.modules.module
    before = len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)
    model = Model(lambda self, x: x[9])
    recorder = GraphRecorder(model)
    with pytest.raises(IndexError), recorder:
        model(torch.randn(2))
    assert (len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)) == before
    assert recorder.graph.output_node().args == ((),)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, w = ctx.saved_tensors
        return grads[0] @ w.t(), x.t() @ grads[0]


@torch.jit.script
def scripted(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.relu(x @ w)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x, w: x @ w,
        lambda x, w: torch.einsum("bi,io->bo", x, w),
        lambda x, w: checkpoint(torch.mm, x, w, use_reentrant=False),
        lambda x, w: checkpoint(torch.mm, x, w, use_reentrant=True),
        lambda x, w: Product.apply(x, w),  # type: ignore[no-untyped-call]
        scripted,
        lambda x, w: torch.vmap(lambda row: row @ w)(x),
    ],
    ids=["matmul", "einsum", "checkpoint", "reentrant", "function", "script", "vmap"],
)
def test_a_weight_is_found_however_it_is_used(compute: Callable[..., torch.Tensor]) -> None:
    model = Model(lambda self, x: compute(x, self.w), w=nn.Parameter(torch.randn(3, 4)))
    graph = record(model, torch.randn(2, 3, requires_grad=True)).graph
    (result,) = results(graph)
    assert {"w", "arg0"} <= sources(result)


@pytest.mark.parametrize(
    ("model", "args"),
    [
        (nn.LSTM(3, 4, batch_first=True), (torch.randn(2, 5, 3),)),
        (nn.TransformerEncoderLayer(8, 2, batch_first=True), (torch.randn(2, 5, 8),)),
        (nn.MultiheadAttention(8, 2), (torch.randn(5, 2, 8),) * 3),
        (nn.Linear(3, 4).bfloat16(), (torch.randn(2, 3).bfloat16(),)),
        (nn.Linear(3, 4).to(torch.complex64), (torch.randn(2, 3, dtype=torch.complex64),)),
        (torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.ReLU())), (torch.randn(2, 3),)),
        (nn.EmbeddingBag(5, 3), (torch.arange(4).view(2, 2),)),
        (nn.Embedding(5, 3, sparse=True), (torch.arange(4),)),
        (nn.LazyLinear(4), (torch.randn(2, 3),)),
        (nn.Linear(3, 4, device="meta"), (torch.randn(2, 3, device="meta"),)),
    ],
    ids=["lstm", "encoder", "attention", "bfloat16", "complex", "script", "bag", "sparse", "lazy", "meta"],
)
def test_kinds_of_models(model: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    recorder = record(model, *args)
    assert {name for name, _ in model.named_parameters()} <= set(stored(recorder.graph))
    assert not [leaf for leaf in recorder.leaves if not leaf.literal]


def test_sparse_operands_are_followed() -> None:
    adjacency = torch.eye(3).to_sparse()
    model = Model(lambda self, x: torch.sparse.mm(adjacency, self.f(x)), f=nn.Linear(4, 2))
    graph = record(model, torch.randn(3, 4)).graph
    (result,) = results(graph)
    assert {"f.weight", "arg0"} <= sources(result)


def test_inputs_of_any_nesting_are_placeholders() -> None:
    model = Model(lambda self, pair, extra: pair[0]["a"] + pair[1] + extra)
    graph = record(model, ({"a": torch.randn(2)}, torch.randn(2)), extra=torch.randn(2)).graph
    assert [n.meta["shape"] for n in graph.nodes if n.op == "placeholder"] == [(2,)] * 3


# ---------------------------------------------------------------- symbolic


def test_symbolic_modules_are_lowered() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    trace = symbolic(model)
    assert (trace.kind, trace.reason) == ("symbolic", "")
    assert trace.graph is not None
    assert [name.partition(".")[0] for name in calls(trace.graph)] == [
        "convolution",
        "batch_norm",
        "relu",
        "flatten",
        "linear",
    ]
    weight = only(trace.graph, aten.convolution.default).args[1]
    assert (weight.target, weight.meta["shape"]) == ("0.weight", (4, 3, 3, 3))
    assert only(trace.graph, aten.linear.default).meta["module"] == "4"


def test_symbolic_functions_and_methods_are_lowered() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(4, 4)
            self.w = nn.Parameter(torch.randn(6, 2))

        def forward(self, x: torch.Tensor) -> Any:
            a, b = nn.functional.gelu(self.f(x), approximate="tanh").chunk(2, -1)
            y = torch.cat([a * torch.sigmoid(b), x], 1) @ self.w
            return {"y": y.view(y.shape[0], -1).softmax(-1) / 2, "x": nn.functional.linear(x, self.f.weight)}

    graph = symbolic(Gated()).graph
    assert graph is not None
    graph.lint()
    names = [name.partition(".")[0] for name in calls(graph)]
    for name in ("gelu", "chunk", "mul", "sigmoid", "cat", "matmul", "view", "softmax", "div"):
        assert name in names
    assert stored(graph) == ["f.weight", "f.bias", "w"]
    assert len(results(graph)) == 2


def test_symbolic_layers_with_several_weights() -> None:
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(3, 8)
            self.attention = nn.MultiheadAttention(8, 2)
            self.encoder = nn.TransformerEncoderLayer(8, 2)

        def forward(self, x: torch.Tensor) -> Any:
            y, _ = self.rnn(x)
            y, _ = self.attention(y, y, y)
            return self.encoder(y)

    model = Layers()
    graph = symbolic(model).graph
    assert graph is not None
    assert set(stored(graph)) == {name for name, _ in model.named_parameters()}


class Deciding(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Caching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.cache = x
        return x + 1


def test_symbolic_failure_has_a_reason() -> None:
    trace = symbolic(Deciding())
    assert trace.graph is None
    assert trace.kind == "none"
    assert "control flow" in trace.reason


def test_symbolic_tracing_leaves_the_model_alone() -> None:
    model = Caching()
    assert symbolic(model).graph is not None
    assert not hasattr(model, "cache")
