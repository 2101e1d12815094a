"""The probe: what it measures, what it survives, and that it leaves everything as it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from called import Model
from torch import nn
from torch.utils.checkpoint import checkpoint

from initlint.evidence.signals import Signal
from initlint.probe.run import Probe, probe
from initlint.runtime import preserved
from initlint.runtime.call import Inputs


def run(model: nn.Module, *args: Any, **options: Any) -> Probe:
    found = probe(model, Inputs(args), **options)
    assert found.error is None, found.error
    return found


def signal(found: Probe, operation: str) -> Signal:
    """The one reading of an operation."""
    (reading,) = [s for s in found.signals if s.operation == f"aten.{operation}"]
    return reading


def rms(tensor: torch.Tensor) -> float:
    return float(tensor.detach().double().square().mean().sqrt())


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# ---------------------------------------------------------------- figures


class Block(nn.Module):
    """A residual block with in-place activations, as torchvision writes it."""

    def __init__(self, inplace: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.act = nn.ReLU(inplace=inplace)
        self.head = nn.Linear(3, 5)
        self.seen: dict[str, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = self.conv(x)
        norm = self.norm(conv)
        total = norm + x
        out = self.act(total)
        self.seen = {"convolution": conv, "native_batch_norm": norm, "add": total, "relu": out}
        return self.head(out.mean((2, 3)))  # type: ignore[no-any-return]


def test_scales_forward_and_backward_are_those_of_autograd() -> None:
    model, x = Block(inplace=True), torch.randn(4, 3, 8, 8)
    found = run(model, x, loss=lambda y: y.square().sum())
    plain = Block(inplace=False)
    plain.load_state_dict(model.state_dict())
    output = plain(x)
    for tensor in plain.seen.values():
        tensor.retain_grad()
    output.square().sum().backward()
    for operation, tensor in plain.seen.items():
        reading = signal(found, operation)
        assert reading.forward.rms == pytest.approx(rms(tensor), rel=1e-4)
        assert reading.forward.mean == pytest.approx(float(tensor.mean()), abs=1e-4)
        assert reading.backward is not None
        assert tensor.grad is not None
        assert reading.backward.rms == pytest.approx(rms(tensor.grad), rel=1e-4)
    for name, parameter in plain.named_parameters():
        scale = found.gradients[name].scale
        assert scale is not None
        assert parameter.grad is not None
        assert scale.rms == pytest.approx(rms(parameter.grad), rel=1e-3, abs=1e-6)


def test_signals_are_in_order_with_place_and_kind() -> None:
    found = run(Block(), torch.randn(4, 3, 8, 8))
    assert [(s.kind, s.module) for s in found.signals] == [
        ("input", ""),
        ("weight", "conv"),
        ("norm", "norm"),
        ("add", ""),
        ("activation", "act"),
        ("weight", "head"),
    ]
    assert all(s.site is not None and s.site.file == __file__ for s in found.signals[1:])
    assert found.signals[1].weights == ("conv.weight", "conv.bias")
    assert {s.node for s in found.signals} <= {n.name for n in found.trace.graph.nodes}  # type: ignore[union-attr]
    assert found.calls == {"": 1, "conv": 1, "norm": 1, "act": 1, "head": 1}


def test_an_addition_tells_the_size_of_what_it_adds() -> None:
    model: Any = Model(lambda self, x: x + self.f(x) * 100, f=nn.Linear(6, 6))
    x = torch.randn(4, 6)
    found = run(model, x)
    assert found.operands[signal(found, "add").node] == pytest.approx(
        (rms(x), rms(model.f(x)) * 100), rel=1e-4
    )


def test_operands_are_read_before_an_inplace_addition() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y += self.f(x)
        return y

    x = torch.randn(4, 6)
    found = run(Model(forward, f=nn.Linear(6, 6)), x)
    assert found.operands[signal(found, "add").node][0] == pytest.approx(rms(x * 2), rel=1e-4)


def test_large_tensors_are_thinned_out_without_losing_units_or_inputs() -> None:
    model: Any = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU())
    nn.init.ones_(model[0].weight)
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([0.0, 0, 0, -100, 0, 0, 0, 0]))
    x = torch.randn(4, 1, 128, 128)
    reading = signal(run(model, x), "relu")
    assert (reading.units, reading.dead_units, reading.observations) == (8, 1, 4 * 128 * 128)
    assert reading.forward.rms == pytest.approx(rms(model(x)), rel=0.03)
    assert reading.across_inputs == pytest.approx(1.0, abs=0.4)


@pytest.mark.parametrize("layout", ["convolution", "tokens", "flattened"])
def test_units_lie_along_the_channel_axis(layout: str) -> None:
    layers = {
        "convolution": (nn.Conv2d(3, 7, 3), torch.randn(2, 3, 9, 9)),
        "tokens": (nn.Linear(5, 7), torch.randn(2, 4, 5)),
        "flattened": (nn.Sequential(nn.Flatten(), nn.Linear(12, 7)), torch.randn(2, 3, 2, 2)),
    }
    layer, x = layers[layout]
    assert signal(run(nn.Sequential(layer, nn.ReLU()), x), "relu").units == 7


def test_outputs_that_do_not_depend_on_the_input() -> None:
    layer = nn.Linear(6, 6)
    nn.init.zeros_(layer.weight)
    nn.init.normal_(layer.bias)
    reading = signal(run(nn.Sequential(layer, nn.Tanh()), torch.randn(4, 6)), "tanh")
    assert reading.across_inputs == 0.0
    assert reading.forward.rms > 0


@pytest.mark.parametrize(
    ("activation", "scale", "expected"),
    [
        (nn.Sigmoid(), 1e4, (0.9, 1.0)),
        (nn.Sigmoid(), 1.0, (0.0, 0.05)),
        (nn.Tanh(), 1e4, (0.9, 1.0)),
        (nn.GELU(), 1e4, (0.35, 0.65)),
        (nn.Softmax(-1), 1e4, (0.9, 1.0)),
        (nn.LogSoftmax(-1), 1e4, (0.9, 1.0)),
        (nn.Softmax(-1), 1.0, (0.0, 0.05)),
    ],
)
def test_saturation(activation: nn.Module, scale: float, expected: tuple[float, float]) -> None:
    found = run(nn.Sequential(nn.Identity(), activation), torch.randn(64, 32) * scale)
    low, high = expected
    assert low <= found.signals[-1].saturated <= high


@pytest.mark.parametrize("mask", [float("-inf"), -1e9, -1e4, torch.finfo(torch.float32).min])
def test_a_row_with_one_choice_is_not_saturated(mask: float) -> None:
    above = torch.full((8, 8), mask).triu(1)
    found = run(Model(lambda self, x: torch.softmax(x + above, -1)), torch.randn(4, 8, 8))
    assert found.signals[-1].saturated < 0.02


# ---------------------------------------------------------------- where the backward starts


def test_the_backward_starts_where_no_other_output_begins() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        hidden = self.a(x)
        return {"logits": self.b(hidden), "hidden": hidden, "cache": [hidden * 2]}

    model = Model(forward, a=nn.Linear(6, 6), b=nn.Linear(6, 3))
    alone = Model(lambda self, x: self.b(self.a(x)), a=model.a, b=model.b)
    both, one = run(model, torch.ones(4, 6)), run(alone, torch.ones(4, 6))
    assert both.gradients["b.weight"] == one.gradients["b.weight"]


def test_random_directions_have_the_size_of_a_mean_loss() -> None:
    x, targets = torch.randn(64, 6), torch.randint(0, 10, (64,))
    model: Any = nn.Sequential(nn.Linear(6, 10))
    free = run(model, x).gradients["0.weight"].scale
    loss = run(model, x, loss=lambda y: nn.functional.cross_entropy(y, targets)).gradients["0.weight"].scale
    assert free is not None
    assert loss is not None
    assert 0.3 < free.rms / loss.rms < 3


def test_a_single_number_is_a_loss() -> None:
    model: Any = Model(lambda self, x: self.f(x).square().mean(), f=nn.Linear(6, 3))
    x = torch.randn(4, 6)
    given = run(model, x)
    same = run(Model(lambda self, x: self.f(x), f=model.f), x, loss=lambda y: y.square().mean())
    assert given.gradients["f.weight"] == same.gradients["f.weight"]


def test_a_loss_of_two_arguments_gets_the_inputs() -> None:
    def loss(output: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        return (output - inputs).square().mean()

    model: Any = nn.Sequential(nn.Linear(6, 6))
    assert run(model, torch.randn(4, 6), loss=loss).gradients["0.weight"].scale is not None


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda y: y, "a tensor of shape [4, 3]"),
        (lambda y: {"loss": y.sum()}, "dict"),
        (lambda y: torch.zeros(()), "does not depend"),
        (lambda y: y.no_such_method(), "no_such_method"),
    ],
)
def test_a_loss_that_cannot_be_used_is_an_error(loss: Callable[..., Any], message: str) -> None:
    found = probe(nn.Linear(6, 3), Inputs((torch.randn(4, 6),)), loss=loss)
    assert found.error is not None
    assert message in found.error.message
    assert len(found.signals) == 2


@dataclass
class Nested:
    pair: tuple[torch.Tensor, dict[str, torch.Tensor]]


class Holder:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: y,
        lambda y: (y, None),
        lambda y: [{"y": y, "n": 3}],
        lambda y: (item for item in [y]),
        lambda y: Nested((y, {})),
        Holder,
        lambda y: torch.distributions.Normal(y, 1.0, validate_args=False),
        lambda y: nn.utils.rnn.pack_padded_sequence(y[None], torch.tensor([4]), batch_first=True),
    ],
    ids=["tensor", "tuple", "list", "generator", "dataclass", "object", "distribution", "packed"],
)
def test_outputs_of_any_nesting(wrap: Callable[[torch.Tensor], Any]) -> None:
    found = run(Model(lambda self, x: wrap(self.f(x)), f=nn.Linear(6, 3)), torch.randn(4, 6))
    scale = found.gradients["f.weight"].scale
    assert scale is not None
    assert scale.rms > 0


# ---------------------------------------------------------------- gradients


def test_a_parameter_that_is_not_used_has_no_gradient() -> None:
    model: Any = Model(lambda self, x: self.f(x), f=nn.Linear(6, 3), g=nn.Linear(6, 3))
    found = run(model, torch.randn(4, 6))
    assert found.gradients["g.weight"].scale is None
    assert found.gradients["f.weight"].scale is not None


def test_a_zero_gradient_is_not_a_missing_one() -> None:
    model: Any = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    nn.init.zeros_(model[1].weight)
    scale = run(model, torch.randn(4, 6)).gradients["0.weight"].scale
    assert scale is not None
    assert (scale.rms, scale.zeros) == (0.0, 1.0)


def test_equal_units_have_equal_gradients() -> None:
    model: Any = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    assert run(model, torch.randn(4, 8)).gradients["0.weight"].duplicates == (0, 0)
    nn.init.constant_(model[0].weight, 0.1)
    nn.init.constant_(model[2].weight, 0.1)
    nn.init.zeros_(model[0].bias)
    found = run(model, torch.randn(4, 8)).gradients
    assert found["0.weight"].duplicates[0] == 15
    assert found["2.weight"].duplicates[1] == 15


def test_rows_that_were_not_looked_up_are_no_duplicates() -> None:
    found = run(nn.Embedding(20, 8), torch.tensor([1, 5, 7]))
    assert found.gradients["weight"].duplicates == (0, 0)
    assert found.gradients["weight"].scale.zeros == pytest.approx(17 / 20)  # type: ignore[union-attr]


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Linear(6, 3)
    model.bias.requires_grad_(False)
    assert set(run(model, torch.randn(4, 6)).gradients) == {"weight"}


def test_without_a_trainable_output_there_is_a_reason() -> None:
    found = run(Model(lambda self, x: self.f(x).argmax(), f=nn.Linear(6, 3)), torch.randn(4, 6))
    assert found.gradients == {}
    assert found.no_backward == "no output depends on a parameter"


class Shifted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        shifted = torch.relu(x + 1)
        shifted.sum()
        return shifted

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return grads[0]


@pytest.mark.parametrize(
    "through",
    [
        lambda f, x: f(x),
        lambda f, x: checkpoint(f, x, use_reentrant=False),
        lambda f, x: checkpoint(f, x, use_reentrant=True),
        lambda f, x: Shifted.apply(f(x)),  # type: ignore[no-untyped-call]
    ],
    ids=["plain", "checkpoint", "reentrant", "function"],
)
def test_gradients_arrive_through(through: Callable[..., torch.Tensor]) -> None:
    model = Model(
        lambda self, x: self.head(through(self.body, self.stem(x))),
        stem=nn.Linear(6, 6),
        body=nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout()),
        head=nn.Linear(6, 3),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = run(model, torch.randn(8, 6))
    assert all(g.scale is not None and g.scale.rms > 0 for g in found.gradients.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_custom_function_does_not_hide_its_output() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        return Shifted.apply(self.f(x)) * 2  # type: ignore[no-untyped-call]

    model = Model(forward, f=nn.Linear(6, 3))
    assert signal(run(model, torch.randn(4, 6)), "relu").backward is not None


def test_a_custom_function_may_stop_the_gradient() -> None:
    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> Any:
            return None

    def forward(self: Any, x: torch.Tensor) -> Any:
        return self.g(x) + Stop.apply(self.f(x))  # type: ignore[no-untyped-call]

    found = run(Model(forward, f=nn.Linear(6, 3), g=nn.Linear(6, 3)), torch.randn(4, 6)).gradients
    assert found["f.weight"].scale is None or found["f.weight"].scale.rms == 0
    assert found["g.weight"].scale is not None


def test_half_precision_gradients_that_underflow_are_counted() -> None:
    model: Any = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))
    nn.init.constant_(model[1].weight, 1e-4)
    found = run(model, torch.randn(4, 6) * 1e-4, dtype="float16")
    assert found.gradients["0.weight"].underflow > 0.5
    assert run(model, torch.randn(4, 6) * 1e-4).gradients["0.weight"].underflow == 0.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_another_dtype_is_only_for_the_run(dtype: str) -> None:
    model: Any = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
    parameters, before = dict(model.named_parameters()), {n: v.clone() for n, v in model.state_dict().items()}
    found = run(model, torch.randn(4, 6), dtype=dtype)
    assert found.trace.graph is not None
    held = {n.meta["dtype"] for n in found.trace.graph.nodes if n.target == "0.weight"}
    assert held == {getattr(torch, dtype)}
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert all(
        torch.equal(v, before[n]) and v.dtype == before[n].dtype for n, v in model.state_dict().items()
    )


# ---------------------------------------------------------------- what goes wrong


def test_a_forward_that_raises_keeps_what_was_measured() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        y = self.f(x).relu()
        return y[:, 99]

    found = probe(Model(forward, f=nn.Linear(6, 3)), Inputs((torch.randn(4, 6),)))
    assert found.error is not None
    assert (found.error.stage, found.error.kind, found.error.file) == ("probe", "IndexError", __file__)
    assert found.error.line == forward.__code__.co_firstlineno + 2
    assert [s.kind for s in found.signals] == ["input", "weight", "activation"]
    assert found.trace.graph is not None
    assert found.gradients == {}


def test_a_backward_that_raises_keeps_the_forward() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> Any:
            raise ValueError("no way back")

    model: Any = Model(lambda self, x: Broken.apply(self.f(x)), f=nn.Linear(6, 3))  # type: ignore[no-untyped-call]
    found = probe(model, Inputs((torch.randn(4, 6),)))
    assert found.error is not None
    assert "no way back" in found.error.message
    assert found.no_backward == "the backward raised"
    assert signal(found, "addmm").forward.rms > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_operator_that_made_the_first_nan_is_named() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        y = self.f(x)
        y = y / (y - y)
        return self.g(y)  # type: ignore[no-any-return]

    found = run(Model(forward, f=nn.Linear(6, 6), g=nn.Linear(6, 3)), torch.randn(4, 6))
    broken = [s for s in found.signals if s.forward.nans or s.forward.infs]
    assert [s.operation for s in broken] == ["aten.div", "aten.addmm"]
    assert broken[0].forward.infs == 24


def test_masks_of_minus_infinity_are_no_fault() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        scores = x @ x.transpose(-1, -2)
        mask = torch.full((4, 4), float("-inf")).triu(1)
        return torch.softmax(scores + mask, -1) @ self.f(x)  # type: ignore[no-any-return]

    found = run(Model(forward, f=nn.Linear(6, 6)), torch.randn(2, 4, 6))
    assert not [s for s in found.signals if s.forward.nans or s.forward.infs]


def test_a_model_on_the_meta_device_is_refused() -> None:
    found = probe(nn.Linear(6, 3, device="meta"), Inputs((torch.randn(4, 6),)))
    assert found.error is not None
    assert "meta device" in found.error.message
    assert found.trace.kind == "none"


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Flatten(), torch.randn(2, 3)),
        (nn.Linear(6, 3).to(torch.complex64), torch.randn(4, 6, dtype=torch.complex64)),
        (nn.Embedding(9, 4, sparse=True), torch.arange(5)),
        (nn.EmbeddingBag(9, 4, sparse=True), torch.arange(6).view(2, 3)),
        (nn.LazyLinear(3), torch.randn(4, 6)),
        (nn.Linear(6, 3).bfloat16(), torch.randn(4, 6).bfloat16()),
        (nn.Linear(6, 3), torch.randn(0, 6)),
        (nn.LSTM(6, 5, num_layers=2, batch_first=True), torch.randn(2, 3, 6)),
        (nn.TransformerEncoderLayer(8, 2, batch_first=True), torch.randn(2, 3, 8)),
        (torch.jit.script(nn.Sequential(nn.Linear(6, 3), nn.ReLU())), torch.randn(4, 6)),
        (Model(lambda self, x: None), torch.randn(2)),
    ],
)
def test_odd_models_run(model: nn.Module, x: torch.Tensor) -> None:
    found = run(model, x)
    assert all(gradient.scale is not None for gradient in found.gradients.values())


def autocast(layer: nn.Module, x: torch.Tensor) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return layer(x).float()


def jagged(layer: nn.Module, x: torch.Tensor) -> Any:
    return layer(torch.nested.as_nested_tensor([x[:1], x[1:]], layout=torch.jagged)).values()


def padded(layer: nn.Module, x: torch.Tensor) -> Any:
    return torch.nested.to_padded_tensor(layer(torch.nested.as_nested_tensor([x[:1], x[1:]])), 0.0)


def differentiated(layer: nn.Module, x: torch.Tensor) -> Any:
    return torch.func.grad(lambda z: layer(z).square().sum())(x)


def trained(layer: nn.Module, x: torch.Tensor) -> Any:
    layer(x).sum().backward()
    return layer(x)


@pytest.mark.parametrize("forward", [autocast, jagged, padded, differentiated, trained])
def test_odd_ways_to_run_a_layer(forward: Callable[..., Any]) -> None:
    layer = nn.Linear(6, 3)
    gradient = run(Model(lambda self, x: forward(self.f, x), f=layer), torch.randn(4, 6)).gradients[
        "f.weight"
    ]
    assert gradient.scale is not None
    assert gradient.scale.rms > 0
    assert layer.weight.grad is None


def test_inference_mode_in_forward_leaves_nothing_to_learn() -> None:
    found = run(
        Model(lambda self, x: torch.inference_mode()(self.f)(x), f=nn.Linear(6, 3)), torch.randn(4, 6)
    )
    assert found.no_backward == "no output depends on a parameter"


def test_a_jacobian_in_forward() -> None:
    def rows(self: Any, x: torch.Tensor) -> torch.Tensor:
        x = x.requires_grad_()
        y = self.f(x).tanh()
        seeds = torch.eye(3).unsqueeze(1).expand(3, len(x), 3)
        jacobian = torch.autograd.grad(y, x, seeds, create_graph=True, is_grads_batched=True)
        return jacobian[0].square().sum(0)

    found = run(Model(rows, f=nn.Linear(6, 3)), torch.randn(4, 6))
    assert found.gradients["f.weight"].scale is not None


def test_a_compiled_model_runs_as_it_is_written() -> None:
    layer = nn.Linear(6, 3)
    found = run(torch.compile(nn.Sequential(layer, nn.ReLU())), torch.randn(4, 6))  # type: ignore[arg-type]
    assert [s.kind for s in found.signals] == ["input", "weight", "activation"]


def test_a_lazy_model_stays_lazy() -> None:
    model: Any = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    run(model, torch.randn(4, 6))
    assert isinstance(model[0], nn.LazyLinear)
    assert torch.nn.parameter.is_lazy(model[0].weight)
    assert model(torch.randn(4, 6)).shape == (4, 3)
    assert isinstance(model[0], nn.Linear)


# ---------------------------------------------------------------- from outside, or made on the way


def test_what_is_made_during_forward() -> None:
    class Late(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not hasattr(self, "late"):
                self.late = nn.Linear(6, 3)
                self.scale = nn.Parameter(torch.ones(3))
            return self.late(x) * self.scale  # type: ignore[no-any-return]

    model = Late()
    found = run(model, torch.randn(4, 6))
    made = {(item.kind, item.path): item for item in found.created}
    assert set(made) == {("module", "Linear"), ("parameter", "scale")}
    assert made["module", "Linear"].parameters == ("weight", "bias")
    assert all(item.reached and item.container == "forward" for item in found.created)
    assert all(item.site is not None and item.site.file == __file__ for item in found.created)
    assert not hasattr(model, "late")


def test_what_is_made_and_thrown_away_is_not_reached() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        fresh = nn.Linear(6, 3)
        fresh.weight, fresh.bias = self.f.weight, self.f.bias
        return fresh(x)

    found = run(Model(forward, f=nn.Linear(6, 3)), torch.randn(4, 6))
    assert [item.reached for item in found.created] == [False]
    assert found.gradients["f.weight"].scale is not None


def test_unregistered_layers_are_reached() -> None:
    hidden, idle = nn.Linear(6, 3), nn.Linear(6, 3)
    found = run(Model(lambda self, x: self.layers[0](x), layers=[hidden, idle]), torch.randn(4, 6))
    reached = {id(leaf.tensor) for leaf in found.leaves}
    assert id(hidden.weight) in reached
    assert id(idle.weight) not in reached
    assert found.created == ()


def test_logits_and_the_loss_they_start_with() -> None:
    model = nn.Linear(6, 10)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    (logits,) = run(model, torch.randn(4, 6)).logits
    assert (logits.classes, logits.std) == (10, 0.0)
    assert logits.loss == pytest.approx(float(np.log(10)))
    nn.init.normal_(model.weight, std=100.0)
    assert run(model, torch.randn(4, 6)).logits[0].loss > 50
    assert run(nn.Sequential(model, nn.Softmax(-1)), torch.randn(4, 6)).logits == ()


# ---------------------------------------------------------------- leaving no trace


def actnorm(self: Any, x: torch.Tensor) -> Any:
    """Initialises itself from its first input."""
    if not self.ready:
        with torch.no_grad():
            self.scale.copy_(1 / x.std(0))
            self.shift.data = -x.mean(0)
        self.ready = True
    return (x + self.shift) * self.scale


def codebook(self: Any, x: torch.Tensor) -> Any:
    """Moves its buffers, one of them by assignment, and counts in plain attributes."""
    self.average.mul_(0.9).add_(x.mean(0).detach(), alpha=0.1)
    self.size = self.size + 1
    self.table[0] = x.detach()[0]
    self.steps += 1
    self.history.append(x)
    self.settings["last"] = x
    self.norm.train(False)
    return x + self.average + self.weight


def misbehaving(self: Any, x: torch.Tensor) -> Any:
    """Draws from every generator, and changes flags and hooks."""
    random.random()
    np.random.rand()
    torch.rand(2)
    torch.rand(2, generator=self.generator)
    torch.set_grad_enabled(True)
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    torch.set_default_dtype(torch.float64)
    self.register_forward_hook(lambda *_: None)
    self.weight.register_hook(lambda grad: grad)
    self.weight.requires_grad_(True)
    x.add_(1)
    return x * self.weight


def changing() -> dict[str, nn.Module]:
    moving = Model(codebook, weight=nn.Parameter(torch.randn(6)), norm=nn.LayerNorm(6))
    moving.register_buffer("average", torch.zeros(6))
    moving.register_buffer("size", torch.zeros(()))
    moving.register_buffer("table", torch.zeros(1 << 17, 6))  # too large to be copied at once
    moving.steps, moving.history, moving.settings = 0, [], {"first": 1}  # type: ignore[assignment]
    wild = Model(misbehaving, weight=nn.Parameter(torch.randn(6)), generator=torch.Generator())
    norm = Model(actnorm, scale=nn.Parameter(torch.ones(6)), shift=nn.Parameter(torch.zeros(6)), ready=False)
    embedding = nn.Sequential(nn.Embedding(9, 6, max_norm=0.1))
    spectral = nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)))
    return {
        "actnorm": norm,
        "codebook": moving,
        "misbehaving": wild,
        "batch norm": nn.Sequential(nn.BatchNorm1d(6, momentum=None), nn.Dropout()),
        "max norm": embedding,
        "spectral norm": spectral,
    }


def state(model: nn.Module) -> Any:
    """Everything about a model that a caller could see, values as bytes."""

    def seen(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            grad = None if value.grad is None else (id(value.grad), value.grad.numpy().tobytes())
            hooks = len(value._backward_hooks or ())
            return id(value), value.detach().numpy().tobytes(), value.requires_grad, grad, hooks
        if isinstance(value, torch.Generator):
            return value.get_state().numpy().tobytes()
        if isinstance(value, dict):
            return [(key, seen(item)) for key, item in value.items()]
        if isinstance(value, list):
            return [seen(item) for item in value]
        return id(value)

    return [(path, type(module), seen(vars(module))) for path, module in model.named_modules()]


def surroundings() -> Any:
    numpy = np.random.get_state()
    return (
        random.getstate(),
        numpy[1].tobytes() + bytes([numpy[2] % 256]),  # type: ignore[index]
        torch.get_rng_state().numpy().tobytes(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
    )


@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
@pytest.mark.parametrize("grad", [False, True], ids=["fresh", "with gradients"])
@pytest.mark.parametrize("name", list(changing()))
def test_nothing_is_left_changed(name: str, grad: bool, raises: bool) -> None:
    model = changing()[name]
    if grad:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
    x = torch.arange(8) if name == "max norm" else torch.randn(8, 6)
    kept = x.clone()
    before = state(model), surroundings()

    def loss(output: torch.Tensor) -> torch.Tensor:
        if raises:
            raise ValueError
        return output.square().sum()

    found = probe(model, Inputs((x,)), loss=loss)
    assert (found.error is not None) == raises
    assert (state(model), surroundings()) == before
    assert torch.equal(x, kept)


def test_the_same_seed_gives_the_same_figures() -> None:
    model: Any = nn.Sequential(nn.Linear(6, 6), nn.Dropout(), nn.Linear(6, 3))
    x = torch.randn(4, 6)
    first, second, third = (run(model, x, seed=seed) for seed in (0, 0, 1))
    assert first.signals == second.signals
    assert first.gradients == second.gradients
    assert first.gradients != third.gradients


def test_the_models_own_mode_is_kept() -> None:
    model: Any = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)).eval()
    run(model, torch.randn(1, 6))
    assert not model.training


def test_preserved_restores_after_any_change() -> None:
    model: Any = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
    before = state(model)
    with preserved(model):
        nn.init.zeros_(model[0].weight)
        model[0].weight.data = torch.ones(2, 2)
        model[1].running_mean.add_(1)
        model[0] = nn.Identity()
        model.eval()
    assert state(model) == before


def test_values_that_a_mask_drives_into_a_sigmoid_are_not_saturated() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        kept = torch.full_like(x, float("-inf")).scatter(1, torch.tensor([[0]] * 4), x[:, :1])
        return torch.sigmoid(kept)

    assert signal(run(Model(forward), torch.randn(4, 8)), "sigmoid").saturated == 0
