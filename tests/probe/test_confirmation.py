"""Equal units and zero gradients: which of them training resolves, and which it never can."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from initlint.evidence.signals import Confirmation, Gradient, Scale
from initlint.evidence.use import Use
from initlint.evidence.values import Statistics
from initlint.probe.confirmation import OutOfTimeError, Suspect, confirm, suspects
from initlint.runtime.call import Inputs


def fill(layer: nn.Module, value: float = 0.0) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.constant_(parameter, value)
    return layer


def constant(layer: nn.Linear | nn.Conv2d, value: float = 0.1) -> nn.Module:
    nn.init.constant_(layer.weight, value)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def floats(*shape: int) -> Inputs:
    return Inputs((torch.randn(shape, generator=torch.Generator().manual_seed(7)),))


def ids(*shape: int, below: int) -> Inputs:
    return Inputs((torch.randint(below, shape, generator=torch.Generator().manual_seed(7)),))


# ---------------------------------------------------------------- models that learn


class LoRA(nn.Module):
    def __init__(self, zero: str) -> None:
        super().__init__()
        self.base = nn.Linear(8, 8).requires_grad_(False)
        self.A = nn.Parameter(torch.randn(4, 8) * 0.3)
        self.B = nn.Parameter(torch.randn(8, 4) * 0.3)
        for name in zero:
            nn.init.zeros_(self.get_parameter(name))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.base(x) + x @ self.A.T @ self.B.T
        return out


class Residual(nn.Module):
    """Two convolutions whose branch starts at zero: by the last norm's gain, the last kernel, or a gate."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(8) if how in ("gamma", "layerscale") else nn.Identity()
        self.gate = nn.Parameter(torch.zeros(()) if how == "rezero" else torch.ones(()))
        if how == "gamma":
            nn.init.zeros_(self.get_parameter("norm2.weight"))
        if how == "fixup":
            nn.init.zeros_(self.conv2.weight)
        if how == "layerscale":
            nn.init.constant_(self.get_parameter("norm2.weight"), 1e-6)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        branch = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        x = torch.relu(x + self.gate * branch)
        out: torch.Tensor = self.head(x.mean((2, 3)))
        return out


class AdaLNZero(nn.Module):
    """A DiT block: gates, shifts and scales come from one zero layer; the final layer may be zero, too."""

    def __init__(self, zero_head: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.modulation = fill(nn.Linear(6, 24))
        self.norm = nn.LayerNorm(8, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 6)
        if zero_head:
            fill(self.head)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        h = self.embed(x)
        gate, shift, scale = self.modulation(c).chunk(3, dim=-1)
        h = h + gate * self.mlp(self.norm(h) * (1 + scale) + shift)
        out: torch.Tensor = self.head(h)
        return out


class ControlNet(nn.Module):
    """A trainable copy between two zero convolutions, beside a frozen network."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Conv2d(4, 8, 3, padding=1).requires_grad_(False)
        self.zero_in = fill(nn.Conv2d(2, 4, 1))
        self.copied = nn.Conv2d(4, 8, 3, padding=1)
        self.zero_out = fill(nn.Conv2d(8, 8, 1))

    def forward(self, x: torch.Tensor, hint: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.base(x) + self.zero_out(torch.relu(self.copied(x + self.zero_in(hint))))
        return out


class Gates(nn.Module):
    """Zero scalars in a row: each opens one step after the one behind it."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(depth + 1))
        self.gates = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x
        for layer, gate in zip(self.layers, self.gates, strict=False):
            x = gate * torch.tanh(layer(x))
        out: torch.Tensor = self.layers[-1](x) + skip
        return out


class Tokens(nn.Module):
    """A transformer layer on ids, with position embeddings."""

    def __init__(self, position: float | None = 0.0, embedding: float | None = None) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 8)
        start = torch.randn(1, 5, 8) if position is None else torch.full((1, 5, 8), position)
        self.position = nn.Parameter(start)
        if embedding is not None:
            nn.init.constant_(self.tokens.weight, embedding)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layer(self.tokens(x) + self.position))
        return out


class Experts(nn.Module):
    """Softmax-weighted experts in one stack."""

    def __init__(self, same_experts: bool, router: str) -> None:
        super().__init__()
        self.router = nn.Linear(6, 4, bias=False)
        self.up = nn.Parameter(torch.randn(4, 6, 12) / 6**0.5)
        self.down = nn.Parameter(torch.randn(4, 12, 6) / 12**0.5)
        with torch.no_grad():
            if same_experts:
                self.up[1:] = self.up[0]
                self.down[1:] = self.down[0]
            if router == "equal":
                self.router.weight[1:] = self.router.weight[0].clone()
            if router == "zero":
                self.router.weight.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.router(x).softmax(-1)
        h = torch.relu(torch.einsum("bi,eio->beo", x, self.up))
        return torch.einsum("be,beo->bo", weights, torch.einsum("beo,eoi->bei", h, self.down))


class EqualStreams(nn.Module):
    """Mixes streams with weights of sum one: as long as they hardly differ, the weights hardly matter."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(6, 5))
        self.apart = nn.Parameter(torch.zeros(5, 1))
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = (x @ self.mix).softmax(-1)
        mixed = (weights[..., None] * x[:, None] * (1 + 1e-6 * self.apart)).sum(1)
        y: torch.Tensor = self.head(mixed)
        return y


class DeformableAttention(nn.Module):
    """Sampling weights from a zero layer with a zero bias, softmax over the points."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(8, 32)
        self.attention_weights = fill(nn.Linear(8, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = self.value(x).unflatten(-1, (4, 8))
        out: torch.Tensor = (self.attention_weights(x).softmax(-1).unsqueeze(-1) * values).sum(-2)
        return out


class Attention(nn.Module):
    """Separate projections, so that the key bias is a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))


class CloneHeads(nn.Module):
    """Attention heads that are copies of one, averaged."""

    def __init__(self) -> None:
        super().__init__()
        one = torch.randn(1, 8, 4)
        self.query, self.key, self.value = (nn.Parameter(one.repeat(3, 1, 1) * s) for s in (0.3, 0.2, 0.4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (torch.einsum("btd,hde->bhte", x, w) for w in (self.query, self.key, self.value))
        return nn.functional.scaled_dot_product_attention(q, k, v).mean(1)


class Ensemble(nn.Module):
    """Members that are separate modules; deep copies or not."""

    def __init__(self, cloned: bool) -> None:
        super().__init__()
        one = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        self.members = nn.ModuleList(copy.deepcopy(one) for _ in range(3))
        self.mix = nn.Linear(9, 3) if not cloned else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outs = [member(x) for member in self.members]
        mixed: torch.Tensor = self.mix(torch.cat(outs, -1)) if self.mix else torch.stack(outs).mean(0)
        return mixed


def net2wider() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    first, bias, second = (model.get_parameter(name) for name in ("0.weight", "0.bias", "2.weight"))
    with torch.no_grad():
        first[4:] = first[:4].clone()
        bias[4:] = bias[:4].clone()
        second[:, 4:] = second[:, :4].clone()
    return model


def lstm(everything: bool) -> nn.Module:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 6, batch_first=True)
            self.head = nn.Linear(6, 2)
            for parameter in self.rnn.parameters():
                nn.init.constant_(parameter, 0.1)
            if everything:
                nn.init.constant_(self.head.weight, 0.1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.rnn(x)[0][:, -1])
            return out

    return Last()


image = floats(4, 3, 6, 6)
rows = floats(8, 6)


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], nn.Module]
    inputs: Inputs
    suspects: tuple[Suspect, ...]


def case(name: str, build: Callable[[], nn.Module], inputs: Inputs, **axes: int | None) -> Case:
    found = tuple(suspect(key.replace("__", "."), axis) for key, axis in axes.items())
    return Case(name, build, inputs, found)


def suspect(name: str, axis: int | None) -> Suspect:
    return Suspect(name, axis, bias=name.replace("weight", "bias") if "weight" in name else None)


def mlp(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


LEARNS = [
    case("lora-b-zero", lambda: LoRA("B"), floats(8, 8), B=0, A=None),
    case("lora-a-zero", lambda: LoRA("A"), floats(8, 8), A=0, B=None),
    case("zero-gamma", lambda: Residual("gamma"), image, conv2__weight=None, norm2__weight=0),
    case("fixup", lambda: Residual("fixup"), image, conv2__weight=0, conv1__weight=None),
    case("rezero", lambda: Residual("rezero"), image, gate=None, conv1__weight=None, conv2__weight=None),
    case("layerscale", lambda: Residual("layerscale"), image, norm2__weight=0, conv1__weight=None),
    case(
        "zero-head",
        lambda: mlp(nn.Linear(6, 8), nn.ReLU(), fill(nn.Linear(8, 3))),
        rows,
        **{"0__weight": None, "0__bias": None, "2__weight": 0, "2__bias": 0},
    ),
    case(
        "adaln-zero",
        lambda: AdaLNZero(zero_head=False),
        Inputs((*floats(8, 6).args, *floats(8, 6).args)),
        modulation__weight=0,
        mlp__0__weight=None,
    ),
    case(
        "adaln-zero-and-zero-head",
        lambda: AdaLNZero(zero_head=True),
        Inputs((*floats(8, 6).args, *floats(8, 6).args)),
        modulation__weight=0,
        mlp__0__weight=None,
        embed__weight=None,
        head__weight=0,
    ),
    case(
        "controlnet",
        ControlNet,
        Inputs((*floats(4, 4, 6, 6).args, *floats(4, 2, 6, 6).args)),
        zero_in__weight=0,
        zero_out__weight=0,
        copied__weight=None,
    ),
    case("zero-positions", Tokens, ids(4, 5, below=20), position=1),
    case("constant-embedding", lambda: Tokens(None, 0.0), ids(4, 5, below=20), tokens__weight=1),
    case("constant-rows-looked-up", lambda: Tokens(None, 0.5), ids(4, 5, below=9), tokens__weight=0),
    case(
        "constant-before-random",
        lambda: mlp(constant(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 3)),
        rows,
        **{"0__weight": 0},
    ),
    case("zero-linear", lambda: fill(nn.Linear(6, 3)), rows, weight=0, bias=0),
    case("deformable-attention", DeformableAttention, floats(2, 5, 8), attention_weights__weight=0),
    case("equal-streams", EqualStreams, rows, mix=1),
    case("zero-router", lambda: Experts(False, "zero"), rows, router__weight=0),
    case("equal-router", lambda: Experts(False, "equal"), rows, router__weight=0),
    case("clones-with-a-router", lambda: Experts(True, "random"), rows, up=0, down=0),
    case("key-bias", Attention, floats(2, 5, 8), key__bias=None, key__weight=None),
    case(
        "bias-before-batchnorm",
        lambda: mlp(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh()),
        image,
        **{"0__bias": None},
    ),
    case("one-key", Attention, floats(4, 1, 8), key__weight=None, query__weight=None),
    case("two-gates", lambda: Gates(2), rows, gates__0=None, layers__0__weight=None),
    case("three-gates", lambda: Gates(3), rows, gates__0=None, layers__0__weight=None),
    case("constant-lstm", lambda: lstm(everything=False), floats(4, 5, 4), rnn__weight_ih_l0=0),
    Case(
        "mixed-copies",
        lambda: Ensemble(cloned=False),
        rows,
        (Suspect("members.0.0.weight", 0, ("members.1.0.weight", "members.2.0.weight")),),
    ),
]

STUCK = [
    case(
        "constant-before-constant",
        lambda: mlp(constant(nn.Linear(6, 8)), nn.Tanh(), constant(nn.Linear(8, 3))),
        rows,
        **{"0__weight": 0},
    ),
    case(
        "constant-hidden",
        lambda: mlp(
            nn.Linear(6, 8), nn.ReLU(), fill(nn.Linear(8, 8), 0.2), nn.ReLU(), fill(nn.Linear(8, 3), 0.2)
        ),
        rows,
        **{"2__weight": 0},
    ),
    case(
        "constant-with-dropout",
        lambda: mlp(
            constant(nn.Linear(6, 8)), nn.Tanh(), nn.Dropout(0.5), nn.LayerNorm(8), constant(nn.Linear(8, 3))
        ),
        rows,
        **{"0__weight": 0},
    ),
    case(
        "constant-convolution",
        lambda: mlp(constant(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8), nn.ReLU(), constant(nn.Conv2d(8, 4, 1))),
        image,
        **{"0__weight": 0},
    ),
    case("lora-both-zero", lambda: LoRA("AB"), floats(8, 8), A=0, B=0),
    case(
        "zero-into-relu",
        lambda: mlp(nn.Linear(6, 8), nn.ReLU(), fill(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3)),
        rows,
        **{"2__weight": 0, "0__weight": None},
    ),
    case(
        "two-zero-layers",
        lambda: mlp(nn.Linear(6, 8), fill(nn.Linear(8, 8)), fill(nn.Linear(8, 3))),
        rows,
        **{"1__weight": 0, "2__weight": 0, "0__weight": None},
    ),
    case("net2wider", net2wider, rows, **{"0__weight": 0}),
    case("clones-and-equal-router", lambda: Experts(True, "equal"), rows, up=0, down=0),
    case("clones-and-zero-router", lambda: Experts(True, "zero"), rows, up=0, down=0),
    case("clone-heads", CloneHeads, floats(2, 5, 8), query=0, key=0, value=0),
    case("constant-lstm-and-head", lambda: lstm(everything=True), floats(4, 5, 4), rnn__weight_hh_l0=0),
    Case(
        "averaged-copies",
        lambda: Ensemble(cloned=True),
        rows,
        (Suspect("members.0.0.weight", 0, ("members.1.0.weight", "members.2.0.weight")),),
    ),
    case(
        "huge-negative-bias",
        lambda: mlp(nn.Linear(6, 8), nn.ReLU(), fill(nn.Linear(8, 8), -9.0), nn.ReLU(), nn.Linear(8, 3)),
        Inputs((rows.args[0].abs(),)),
        **{"0__weight": None, "2__bias": None},
    ),
]


def settled(example: Case, seed: int, dtype: torch.dtype) -> dict[str, Confirmation]:
    torch.manual_seed(seed)
    model = example.build().to(dtype)
    inputs = Inputs(tuple(a.to(dtype) if a.is_floating_point() else a for a in example.inputs.args))
    return confirm(model, inputs, example.suspects, seed=seed)


def condemned(confirmation: Confirmation) -> bool:
    return confirmation.zero_gradient or confirmation.stuck_units > 0


DRAWS = [(0, torch.float32), (1, torch.float64), (2, torch.float32)]


@pytest.mark.parametrize(("seed", "dtype"), DRAWS)
@pytest.mark.parametrize("example", LEARNS, ids=lambda c: c.name)
def test_what_training_resolves_is_let_go(example: Case, seed: int, dtype: torch.dtype) -> None:
    found = settled(example, seed, dtype)
    assert found.keys() == {s.name for s in example.suspects}
    assert not [name for name, confirmation in found.items() if condemned(confirmation)]


@pytest.mark.parametrize(("seed", "dtype"), DRAWS)
@pytest.mark.parametrize("example", STUCK, ids=lambda c: c.name)
def test_what_training_never_resolves_is_confirmed(example: Case, seed: int, dtype: torch.dtype) -> None:
    found = settled(example, seed, dtype)
    assert found.keys() == {s.name for s in example.suspects}
    assert not [name for name, confirmation in found.items() if not condemned(confirmation)]


# ---------------------------------------------------------------- what is counted


def test_subsets_of_equal_units_are_counted() -> None:
    found = confirm(net2wider(), rows, [suspect("0.weight", 0)])["0.weight"]
    assert (found.stuck_units, found.units, found.zero_gradient) == (8, 8, False)


def test_units_that_a_bias_tells_apart_are_not_equal() -> None:
    model = mlp(nn.Linear(6, 8), nn.Tanh(), constant(nn.Linear(8, 3)))
    nn.init.constant_(model.get_parameter("0.weight"), 0.1)
    assert confirm(model, rows, [suspect("0.weight", 0)])["0.weight"].stuck_units == 0


def test_a_bias_of_stacked_matrices_tells_units_apart() -> None:
    class Stack(nn.Module):
        def __init__(self, same_bias: bool) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 6, 4) * 0.1)
            self.bias = nn.Parameter(torch.zeros(2, 4) if same_bias else torch.randn(2, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.einsum("bi,eio->beo", x, self.weight) + self.bias
            return torch.tanh(hidden).sum((1, 2))

    suspects = [suspect("weight", 2)]
    assert confirm(Stack(same_bias=True), rows, suspects)["weight"].stuck_units == 4
    assert confirm(Stack(same_bias=False), rows, suspects)["weight"].stuck_units == 0


def test_a_zero_gradient_is_told_from_a_small_one() -> None:
    model = mlp(nn.Linear(6, 8), nn.ReLU(), fill(nn.Linear(8, 3)))
    nn.init.constant_(model.get_parameter("2.weight"), 1e-12)
    assert not confirm(model, rows, [Suspect("0.weight")])["0.weight"].zero_gradient


def test_more_steps_are_taken_only_while_gates_open() -> None:
    assert confirm(LoRA("B"), floats(8, 8), [Suspect("A")])["A"].steps == 2
    assert confirm(LoRA("AB"), floats(8, 8), [Suspect("A")])["A"].steps == 3
    assert confirm(Gates(3), rows, [Suspect("layers.0.weight")])["layers.0.weight"].steps == 4


def test_tensors_without_a_gradient_are_left_out() -> None:
    model = mlp(nn.Linear(6, 3))
    model.register_parameter("unused", nn.Parameter(torch.zeros(3)))
    model[0].bias.requires_grad_(False)
    assert confirm(model, rows, [Suspect("unused", 0), Suspect("0.bias", 0), Suspect("missing", 0)]) == {}


def test_the_given_loss_is_used() -> None:
    model = fill(nn.Linear(6, 3))
    first_only = confirm(model, rows, [Suspect("weight", 0)], loss=lambda out: out[:, 0].square().sum())
    assert condemned(first_only["weight"]) is True  # the square of zero has no slope
    assert not condemned(confirm(model, rows, [Suspect("weight", 0)])["weight"])


# ---------------------------------------------------------------- odd models


def snapshot(model: nn.Module) -> list[object]:
    state = [(name, value.clone(), value.dtype) for name, value in model.state_dict().items()]
    modes = [module.training for module in model.modules()]
    return [state, modes, [p.grad for p in model.parameters()], torch.random.get_rng_state()]


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_the_model_and_the_generators_are_left_alone() -> None:
    model = Residual("gamma").eval()
    before = snapshot(model)
    confirm(model, image, [Suspect("conv2.weight")])
    assert same(before, snapshot(model))


def test_dropout_in_any_spelling_does_not_hide_symmetry() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = constant(nn.Linear(6, 8)), constant(nn.Linear(8, 3))
            self.attention_dropout = 0.4

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = nn.functional.dropout(torch.tanh(self.up(x)), 0.3, self.training)
            h = nn.functional.dropout(h, self.attention_dropout, self.training)
            out: torch.Tensor = self.down(h)
            return out

    assert confirm(Functional(), rows, [Suspect("up.weight", 0)])["up.weight"].stuck_units == 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64], ids=str)
def test_other_precisions(dtype: torch.dtype) -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.zeros(4, 6, dtype=dtype))
            self.b = nn.Parameter(torch.full((4, 3), 0.5, dtype=dtype))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.to(self.a.dtype) @ self.a.T) @ self.b

    found = confirm(Product(), rows, [Suspect("a", 0)])
    assert found["a"].stuck_units == 4


def test_a_model_that_insists_on_its_precision_is_tried_in_it() -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((8, 6), 0.1))
            self.out = nn.Parameter(torch.full((3, 8), 0.1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.dtype == torch.float32
            return torch.tanh(x @ self.weight.T) @ self.out.T

    assert confirm(Stubborn(), rows, [Suspect("weight", 0)])["weight"].stuck_units == 8


def test_a_sparse_gradient_and_inputs_that_cannot_be_reordered() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 4, sparse=True)
            nn.init.zeros_(self.table.weight)
            self.rnn = nn.GRU(4, 5, batch_first=True)

        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(self.table(x), lengths, batch_first=True)
            out: torch.Tensor = self.rnn(packed)[1]
            return out

    inputs = Inputs((ids(3, 4, below=9).args[0], torch.tensor([4, 3, 2])))
    found = confirm(Bag(), inputs, [Suspect("table.weight", 1)])["table.weight"]
    assert not condemned(found)


def test_a_model_that_cannot_be_copied_is_confirmed_in_place_and_restored() -> None:
    model = mlp(constant(nn.Linear(6, 8)), nn.BatchNorm1d(8), nn.Tanh(), constant(nn.Linear(8, 3)))
    model.lock = threading.Lock()  # type: ignore[assignment]
    before = snapshot(model)
    assert confirm(model, rows, [suspect("0.weight", 0)])["0.weight"].stuck_units == 8
    assert same(before, snapshot(model))


def test_a_model_that_fails_confirms_nothing() -> None:
    assert confirm(nn.Linear(5, 3), rows, [Suspect("weight", 0)]) == {}
    assert confirm(nn.Linear(6, 3), rows, []) == {}


# ---------------------------------------------------------------- who is suspected


def figures(*duplicates: int) -> Statistics:
    return Statistics(8, -1.0, 1.0, 0.0, 0.5, 0.0, 3.0, duplicates=duplicates)


def gradient(absmax: float) -> Gradient:
    return Gradient(Scale(absmax / 2, 0.0, absmax / 2, absmax, 0.0))


@pytest.mark.parametrize(
    ("use", "duplicates", "slope", "expected"),
    [
        (Use("matrix", "aten.mm", "", outputs=(0,)), (3, 0), 1.0, (Suspect("w", 0),)),
        (Use("matrix", "aten.mm", "", outputs=(1,)), (3, 0), 1.0, ()),
        (Use("kernel", "aten.bmm", "", outputs=(2,), stacked=(0,)), (3, 0, 1), 1.0, (Suspect("w", 0),)),
        (Use("matrix", "aten.mm", "", outputs=(0,)), (0, 0), 0.0, (Suspect("w", None),)),
        (Use("gain", "aten.mul", "", outputs=(0,)), (7,), 1.0, ()),
        (None, (3, 0), 1.0, ()),
        (None, (3, 0), 0.0, (Suspect("w", None),)),
    ],
)
def test_suspects(
    use: Use | None, duplicates: tuple[int, ...], slope: float, expected: tuple[Suspect, ...]
) -> None:
    uses = {"w": use} if use else {}
    assert suspects({"w": figures(*duplicates)}, {"w": gradient(slope)}, uses) == expected


def test_a_tensor_that_no_gradient_reached_is_no_suspect() -> None:
    use = Use("matrix", "aten.mm", "", outputs=(0,))
    assert suspects({"w": figures(3, 0)}, {"w": Gradient(None)}, {"w": use}) == ()


# ---------------------------------------------------------------- slow models


def test_without_time_nothing_is_settled_and_the_model_is_as_before() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    fill(model[0])
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(OutOfTimeError):
        confirm(model, floats(16, 4), [suspect("0.weight", 0)], budget=-1.0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_slow_model_keeps_its_precision() -> None:
    seen: list[torch.dtype] = []
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    fill(model[0])
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    found = confirm(model, floats(16, 4), [suspect("0.weight", 0)], probed=100.0)
    assert set(seen) == {torch.float32}
    assert condemned(found["0.weight"])
