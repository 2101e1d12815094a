"""Odd models that a linter of PyTorch models meets. All of them are right, but for what a comment says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils._pytree import tree_map


@dataclass(frozen=True)
class Odd:
    """A model and what it is fed. `fails`: it cannot be run. `found`: rules that rightly speak."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], object] | None = None
    fails: bool = False
    found: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.build.__name__


def drawn(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def tokens() -> Tensor:
    return torch.randint(0, 16, (4, 6), generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- which parameters there are


def nothing_at_all() -> nn.Module:
    return nn.Module()


def no_parameters() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.ReLU())


def zero_size() -> nn.Module:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 4)
            self.prompts = nn.Parameter(torch.zeros(0, 4))

        def forward(self, x: Tensor) -> Any:
            return torch.cat([self.prompts, self.body(x)])

    return Optional()


def scalars() -> nn.Module:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 4)
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, x: Tensor) -> Any:
            return self.scale * self.body(x)

    return Scaled()


def tied() -> nn.Module:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(16, 64)
            self.norm = nn.LayerNorm(64)
            self.head = nn.Linear(64, 16, bias=False)
            nn.init.normal_(self.embed.weight, std=0.02)
            self.head.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Any:
            return self.head(self.norm(self.embed(ids)))

    return Language()


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(4))


def parameter_list() -> nn.Module:
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.ParameterList(nn.init.orthogonal_(torch.empty(8, 8)) for _ in range(3))
            self.named = nn.ParameterDict({"bias": torch.zeros(8)})

        def forward(self, x: Tensor) -> Any:
            for weight in self.weights:
                x = torch.tanh(x @ weight + self.named["bias"])
            return x

    return Layers()


def odd_names() -> nn.Module:
    model = nn.Module()
    model.register_module("a b", nn.Linear(4, 4))
    model.register_module("{0,3}", nn.Linear(4, 4))
    model.register_parameter("größe\n", nn.Parameter(torch.randn(4, 4)))
    return model


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    return model.requires_grad_(False)


# ---------------------------------------------------------------- what their values are


def half() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).half()


def bfloat16() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2)).bfloat16()


def double() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).double()


def complex_weight() -> nn.Module:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(9, dtype=torch.cfloat) / 3)

        def forward(self, x: Tensor) -> Any:
            return torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=16)

    return Spectral()


def float8() -> nn.Module:
    model = nn.Linear(8, 4)
    weight = torch.randn(8, 8).to(torch.float8_e4m3fn)
    model.register_parameter("packed", nn.Parameter(weight, requires_grad=False))
    return model


def integers() -> nn.Module:
    class Quantised(nn.Module):
        weight: Tensor
        scale: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.randint(-127, 128, (4, 8), dtype=torch.int8))
            self.register_buffer("scale", torch.full((4, 1), 0.01))
            self.codes = nn.Parameter(torch.arange(16, dtype=torch.uint8), requires_grad=False)

        def forward(self, x: Tensor) -> Any:
            return F.linear(x, self.weight.float() * self.scale)

    return Quantised()


def sparse() -> nn.Module:
    class Graph(nn.Module):
        adjacency: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("adjacency", torch.eye(6).to_sparse())
            self.body = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Any:
            return torch.sparse.mm(self.adjacency, self.body(x))

    return Graph()


def meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Linear(8, 4)


def views_of_one_storage() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    flat = torch.randn(32) / 2
    for i, layer in enumerate(model):
        layer.weight = nn.Parameter(flat[16 * i : 16 * (i + 1)].view(4, 4))
    return model


# ---------------------------------------------------------------- how they are put together


def recursive() -> nn.Module:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = nn.Linear(8, 8)

        def forward(self, x: Tensor, depth: int = 3) -> Any:
            return self.forward(torch.tanh(self.step(x)), depth - 1) if depth else x

    return Deep()


def knows_its_parent() -> nn.Module:
    class Child(nn.Module):
        def __init__(self, parent: nn.Module) -> None:
            super().__init__()
            self.parent = [parent]
            self.body = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Any:
            return self.body(x)

    class Parent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.child = Child(self)

        def forward(self, x: Tensor) -> Any:
            return self.child(x)

    return Parent()


def modules_in_a_list() -> nn.Module:
    class Listed(nn.Module):  # wrong: the layers belong to nobody
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 2)
            self.layers = [nn.Linear(8, 8) for _ in range(2)]

        def forward(self, x: Tensor) -> Any:
            for layer in self.layers:
                x = torch.relu(layer(x))
            return self.head(x)

    return Listed()


def parametrized() -> nn.Module:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(8, 8)),
        nn.ReLU(),
        parametrizations.spectral_norm(nn.Linear(8, 8)),
        parametrizations.orthogonal(nn.Linear(8, 8)),
    )


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    model[0].register_forward_hook(lambda module, args, output: 2 * output)
    model[2].register_full_backward_hook(lambda module, before, after: None)
    return model


def recurrent() -> nn.Module:
    return nn.LSTM(8, 8, num_layers=2, bidirectional=True, batch_first=True)


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ConvTranspose2d(8, 4, 2),
        nn.GroupNorm(2, 4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


# ---------------------------------------------------------------- what they take, do and give


def takes_a_dict() -> nn.Module:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, batch: dict[str, Tensor], *, weight: float = 1.0) -> Any:
            return self.left(batch["a"]) + weight * self.right(batch["b"])

    return Pair()


def pair() -> tuple[tuple[object, ...], dict[str, object]]:
    return ({"a": drawn(4, 8)(), "b": drawn(4, 8)()},), {"weight": 0.5}


def gives_a_dataclass() -> nn.Module:
    @dataclass
    class Output:
        logits: Tensor
        hidden: list[Tensor]
        loss: Tensor | None = None

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Any:
            hidden = torch.relu(self.body(x))
            return Output(self.head(hidden), [hidden])

    return Model()


def gives_a_nested_tuple() -> nn.Module:
    class State(NamedTuple):
        mean: Tensor
        rest: dict[str, Any]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Any:
            mean = self.body(x)
            return State(mean, {"size": 3, "index": mean.argmax(-1), "none": None})

    return Model()


def gives_nothing() -> nn.Module:
    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Any:
            self.body(x)

    return Silent()


def gives_a_generator() -> nn.Module:
    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Any:
            for _ in range(2):
                x = torch.tanh(self.body(x))
                yield x

    return Stream()


def no_forward() -> nn.Module:
    model = nn.Module()
    model.body = nn.Linear(8, 4)
    return model


def forward_raises() -> nn.Module:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Any:
            raise RuntimeError(f"{tuple(self.body(x).shape)} is\nnot what I like")

    return Broken()


def counts_in_forward() -> nn.Module:
    class Average(nn.Module):
        mean: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)
            self.register_buffer("mean", torch.zeros(8))
            self.calls = 0
            self.cache: dict[str, Tensor] = {}

        def forward(self, x: Tensor) -> Any:
            y: Tensor = self.body(x)
            self.calls += 1
            self.cache["last"] = y
            self.mean.mul_(0.9).add_(y.detach().mean(0), alpha=0.1)
            return y - self.mean

    return Average()


def draws_in_forward() -> nn.Module:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Any:
            hidden = F.dropout(torch.relu(self.body(x)), 0.5, self.training)
            return self.head(hidden + 0.1 * torch.randn_like(hidden))

    return Noisy().eval()


def no_grad_inside() -> nn.Module:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.teacher = nn.Linear(8, 4).requires_grad_(False)
            self.student = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Any:
            with torch.no_grad():
                target = self.teacher(x)
            return F.mse_loss(self.student(x), target)

    return Detached()


def looks_up_tokens() -> nn.Module:
    return nn.EmbeddingBag(16, 8)


def scripted() -> nn.Module:
    model: nn.Module = torch.jit.script(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)))
    return model


def traced() -> nn.Module:
    layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    model: nn.Module = torch.jit.trace(layers, torch.zeros(2, 8))  # type: ignore[no-untyped-call]
    return model


class StandIn(Tensor):
    """A subclass without values of its own, like those of sharded and quantised weights."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> StandIn:
        made: StandIn = Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        bare = tree_map(
            lambda value: value.held if isinstance(value, StandIn) else value, (args, kwargs or {})
        )
        result = func(*bare[0], **bare[1])
        return tree_map(lambda value: StandIn(value) if isinstance(value, Tensor) else value, result)


def stands_in() -> nn.Module:
    class Sharded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(StandIn(torch.randn(8, 8) / 8**0.5))

        def forward(self, x: Tensor) -> Any:
            return x @ self.weight

    return Sharded()


def differentiates_inside() -> nn.Module:
    class Energy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

        def forward(self, x: Tensor) -> Any:
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.body(x).sum(), x, create_graph=True)[0]

    return Energy()


BATCH = drawn(6, 8)
ZOO = (
    Odd(nothing_at_all),
    Odd(no_parameters, drawn(4, 2, 3)),
    Odd(zero_size, BATCH),
    Odd(scalars, BATCH),
    Odd(tied, tokens),
    Odd(lazy, BATCH),
    Odd(parameter_list, BATCH),
    Odd(odd_names),
    Odd(frozen, BATCH, found=frozenset({"frozen-random"})),
    Odd(half, lambda: BATCH().half()),
    Odd(bfloat16, lambda: BATCH().bfloat16()),
    Odd(double, lambda: BATCH().double()),
    Odd(complex_weight, drawn(4, 16)),
    Odd(float8, BATCH),
    Odd(integers, BATCH),
    Odd(sparse, BATCH),
    Odd(meta, fails=True),
    Odd(views_of_one_storage, drawn(4, 4)),
    Odd(recursive, BATCH),
    Odd(knows_its_parent, BATCH),
    Odd(modules_in_a_list, BATCH, found=frozenset({"unregistered-module"})),
    Odd(parametrized, BATCH),
    Odd(hooked, BATCH),
    Odd(recurrent, drawn(4, 5, 8)),
    Odd(attention, drawn(4, 5, 16)),
    Odd(convolutions, drawn(4, 3, 8, 8)),
    Odd(takes_a_dict, pair),
    Odd(gives_a_dataclass, BATCH),
    Odd(gives_a_nested_tuple, BATCH),
    Odd(gives_nothing, BATCH),
    Odd(gives_a_generator, BATCH),
    Odd(no_forward),
    Odd(forward_raises, BATCH, fails=True),
    Odd(counts_in_forward, BATCH),
    Odd(draws_in_forward, BATCH),
    Odd(no_grad_inside, BATCH, found=frozenset({"frozen-random"})),
    Odd(looks_up_tokens, tokens),
    Odd(scripted),
    Odd(traced),
    Odd(stands_in, BATCH),
    Odd(differentiates_inside),
)
