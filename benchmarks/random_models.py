"""Healthy models of random shape: every warning or error is a false alarm.

Run from a checkout: `python -m benchmarks.random_models --models 5000 --jobs 2`.

Kind, width, depth, activation, normalisation, bias, dropout, sizes of input and output, and one of the
initialisations that suit them are drawn at random. Layers without normalisation are initialised for their
activation, or left to PyTorch's default in networks of up to three; behind a normalisation the scale is free.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.healthy_seeds import Alarm, alarms, show
from initlint import theory

STEP = 25  # models that one task lints
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "tanh": nn.Tanh,
}
SATURATING = ("tanh", "elu", "selu")  # whose customary gain is 1
LAYERS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "mlp": (nn.Linear, ()),
    "residual": (nn.Linear, ()),
    "conv1d": (partial(nn.Conv1d, kernel_size=5, padding=2), (20,)),
    "conv2d": (partial(nn.Conv2d, kernel_size=3, padding=1), (12, 12)),
}
SCHEMES: dict[str, Callable[[Tensor, float], object]] = {
    "normal": lambda w, gain: nn.init.normal_(w, std=gain / math.sqrt(w[0].numel())),
    "uniform": lambda w, gain: nn.init.kaiming_uniform_(w, a=math.sqrt(max(2 / gain**2 - 1, 0))),
    "orthogonal": nn.init.orthogonal_,
    "truncated": lambda w, gain: nn.init.trunc_normal_(
        w, std=gain / math.sqrt(w[0].numel()) / 0.88, a=-2, b=2
    ),
}


@dataclass(frozen=True, slots=True)
class Design:
    """What is drawn of one model."""

    kind: str
    activation: str
    norm: str
    widths: tuple[int, ...]  # of the input, of every layer
    outputs: int
    scheme: str
    bias: bool
    zero_bias: bool
    dropout: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a batch."""
        return (16, self.widths[0], *LAYERS[self.kind][1])


def design(seed: int) -> Design:
    """A healthy design."""
    draw = random.Random(seed)
    norm = draw.choice(("none", "none", "batch", "layer"))
    activation = draw.choice(list(ACTIVATIONS))
    suited = ["xavier_uniform", "xavier_normal"] if activation in SATURATING else list(SCHEMES)
    scheme = draw.choice([*suited, "default"] if norm == "none" else [*suited, "default", "0.02"])
    width = draw.choice((8, 12, 16, 24, 32, 48, 64, 100, 128) if norm == "none" else (16, 32, 64, 96))
    widths = [draw.choice((1, 2, 3, 7, 16, 32, 64))]
    for _ in range(draw.randint(1, 8 if norm != "none" else 3 if scheme == "default" else 5)):
        widths.append(width)
        width = max(8, int(width * draw.choice((1, 1, 1, 0.5, 1.5, 2))))
    return Design(
        kind=draw.choice(list(LAYERS)),
        activation=activation,
        norm=norm,
        widths=tuple(widths),
        outputs=draw.choice((1, 2, 3, 5, 10, 30, 100)),
        scheme=scheme,
        bias=draw.random() < 0.8,
        zero_bias=scheme == "0.02" or draw.random() < 0.5,
        dropout=draw.choice((0.0, 0.0, 0.1)),
    )


class Residual(nn.Module):
    """A branch that starts behind a norm and is scaled by the root of the number of branches."""

    def __init__(self, branch: nn.Module, branches: int) -> None:
        super().__init__()
        self.branch, self.scale = branch, 1 / math.sqrt(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Of the input's shape."""
        branch: Tensor = self.branch(x)
        return x + self.scale * branch


def build(drawn: Design) -> nn.Module:
    """The model of a design, initialised."""
    body = nn.Sequential(*hidden(drawn))
    for name, parameter in body.named_parameters():
        if parameter.dim() > 1:
            initialise(parameter, drawn)
        elif drawn.zero_bias and name.endswith("bias"):
            nn.init.zeros_(parameter)
    pool = () if drawn.kind in ("mlp", "residual") else (nn.Flatten(2), Mean())
    return nn.Sequential(*body, *pool, nn.Linear(drawn.widths[-1], drawn.outputs))


class Mean(nn.Module):
    """Mean over the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        """From (…, n) to (…)."""
        return x.mean(-1)


def hidden(drawn: Design) -> Iterator[nn.Module]:
    layer = partial(LAYERS[drawn.kind][0], bias=drawn.bias)
    activation = ACTIVATIONS[drawn.activation]
    for before, width in zip(drawn.widths, drawn.widths[1:], strict=False):
        if drawn.kind == "residual" and before == width:
            branch = (nn.LayerNorm(width), layer(width, width), activation(), layer(width, width))
            yield Residual(nn.Sequential(*branch), len(drawn.widths))
            continue
        yield layer(before, width)
        if drawn.norm == "batch":
            yield nn.BatchNorm2d(width) if drawn.kind == "conv2d" else nn.BatchNorm1d(width)
        elif drawn.norm == "layer":
            yield nn.GroupNorm(1, width) if drawn.kind.startswith("conv") else nn.LayerNorm(width)
        yield activation()
        if drawn.dropout:
            yield nn.Dropout(drawn.dropout)


def initialise(weight: nn.Parameter, drawn: Design) -> None:
    if drawn.scheme == "0.02":
        nn.init.normal_(weight, std=0.02)
    elif drawn.scheme.startswith("xavier"):
        getattr(nn.init, f"{drawn.scheme}_")(weight)
    elif drawn.scheme != "default":
        SCHEMES[drawn.scheme](weight, min(theory.gain(drawn.activation) or 1.0, math.sqrt(2)))


def lint(seeds: range) -> list[Alarm]:
    """Build, lint and collect what is said."""
    designs = [(seed, design(seed)) for seed in seeds]
    return [
        alarm
        for seed, drawn in designs
        for alarm in alarms(str(drawn), partial(build, drawn), partial(batch, drawn), seed)
    ]


def batch(drawn: Design) -> tuple[Tensor]:
    """Inputs of the model of a design."""
    return (torch.randn(drawn.shape),)


def main() -> int:
    """Lint, count, and fail if anything was said."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    tasks = [range(n, min(n + STEP, arguments.models)) for n in range(0, arguments.models, STEP)]
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = [alarm for some in pool.map(lint, tasks) for alarm in some]
    show(found, arguments.models)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
