"""Models for IL204 gain-mismatch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def stack(
    depth: int, activation: Callable[[], nn.Module], draw: Callable[[torch.Tensor], object]
) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(64, 64)
        draw(layer.weight)
        nn.init.zeros_(layer.bias)
        layers += [layer, activation()]
    return nn.Sequential(*layers, nn.Linear(64, 4))


def linear_gain_before_relu() -> nn.Module:
    return stack(10, nn.ReLU, nn.init.xavier_uniform_)


def selu_gain_of_pytorch() -> nn.Module:
    return stack(20, nn.SELU, lambda w: nn.init.kaiming_normal_(w, nonlinearity="selu"))


def forgotten_root() -> nn.Module:
    return stack(1, nn.ReLU, lambda w: nn.init.normal_(w, std=2 / 64))


def root_taken_twice() -> nn.Module:
    layer = nn.Linear(64, 48)
    readout = nn.Linear(48, 64)
    nn.init.normal_(readout.weight, std=48**-0.25)
    return nn.Sequential(layer, nn.ReLU(), readout, nn.Tanh(), nn.Linear(64, 4))


def default_written_out() -> nn.Module:
    return stack(10, nn.ReLU, lambda w: nn.init.kaiming_uniform_(w, a=5**0.5))


def linear_gain_before_glu() -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(8):
        layer = nn.Linear(64, 128)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        layers += [layer, nn.GLU()]
    return nn.Sequential(*layers, nn.Linear(64, 4))


def number_that_looks_like_a_formula() -> nn.Module:
    hidden = nn.Linear(32, 64)
    nn.init.normal_(hidden.weight, std=0.0625)  # 2/32
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), hidden, nn.ReLU(), nn.Linear(64, 4))


def default_written_out_in_a_shallow_stack() -> nn.Module:
    return stack(3, nn.ReLU, lambda w: nn.init.kaiming_uniform_(w, a=5**0.5))


def relu_gain_before_relu() -> nn.Module:
    return stack(10, nn.ReLU, nn.init.kaiming_uniform_)


def widening_layers_that_keep_the_gradient() -> nn.Module:
    layers: list[nn.Module] = []
    for n in (64, 128, 256, 512, 1024):
        layer = nn.Linear(n, 2 * n)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(2048, 4))


def orthogonal_layers_that_widen() -> nn.Module:
    layers: list[nn.Module] = []
    for n in (64, 128, 256, 512):
        layer = nn.Linear(n, 2 * n)
        nn.init.orthogonal_(layer.weight, 2**0.5)
        layers += [layer, nn.Hardswish()]
    return nn.Sequential(*layers, nn.Linear(1024, 4))


def xavier_before_tanh() -> nn.Module:
    return stack(10, nn.Tanh, nn.init.xavier_uniform_)


def shallow() -> nn.Module:
    return stack(2, nn.ReLU, nn.init.xavier_uniform_)


def normalised() -> nn.Module:
    return stack(10, lambda: nn.Sequential(nn.BatchNorm1d(64), nn.ReLU()), nn.init.xavier_uniform_)


examples = (
    Example(linear_gain_before_relu, finds=("{0,2,4,6,8,10,12,14,16,18}.weight",), inputs=normal(32, 64)),
    Example(
        selu_gain_of_pytorch,
        finds=("{0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38}.weight",),
        severity="note",
        inputs=normal(32, 64),
    ),
    Example(forgotten_root, finds=("0.weight",), inputs=normal(32, 64)),
    Example(root_taken_twice, finds=("2.weight",), severity="note", inputs=normal(32, 64)),
    Example(default_written_out, finds=("{0,2,4,6,8,10,12,14,16,18}.weight",), inputs=normal(32, 64)),
    Example(linear_gain_before_glu, finds=("{0,2,4,6,8,10,12,14}.weight",), inputs=normal(32, 64)),
    Example(number_that_looks_like_a_formula, inputs=normal(32, 64)),
    Example(default_written_out_in_a_shallow_stack, inputs=normal(32, 64)),
    Example(relu_gain_before_relu, inputs=normal(32, 64)),
    Example(widening_layers_that_keep_the_gradient, inputs=normal(32, 64)),
    Example(orthogonal_layers_that_widen, inputs=normal(32, 64)),
    Example(xavier_before_tanh, inputs=normal(32, 64)),
    Example(shallow, inputs=normal(32, 64)),
    Example(normalised, inputs=normal(32, 64)),
)
