"""Models for IL211 bias-before-norm."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def block(*between: nn.Module, bias: bool = True, norm: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=bias), *between, norm or nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )


def convolution_in_front() -> nn.Module:
    return block()


def layers_in_front() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 16),
        nn.BatchNorm1d(16),
        nn.Linear(16, 2),
    )


def without_running_averages() -> nn.Module:
    return block(norm=nn.BatchNorm2d(8, track_running_stats=False))


def view_that_keeps_the_channels() -> nn.Module:
    return block(nn.Flatten(2), nn.Unflatten(2, (6, 6)))


def without_bias() -> nn.Module:
    return block(bias=False)


def rectifier_between() -> nn.Module:
    return block(nn.ReLU())


def dropout_between() -> nn.Module:
    return block(nn.Dropout(0.5))


def norm_in_evaluation_mode() -> nn.Module:
    model = block()
    model[1].eval()
    return model


def group_norm() -> nn.Module:
    return block(norm=nn.GroupNorm(2, 8))


def view_that_mixes_channels() -> nn.Module:
    return block(
        nn.Flatten(1),
        nn.Unflatten(1, (36, 8)),
        nn.Flatten(2),
        nn.BatchNorm1d(36),
        nn.Unflatten(2, (8, 1)),
        norm=nn.Conv2d(36, 8, 1),
    )


class Residual(nn.Module):
    """A convolution whose output goes into a norm and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        y: torch.Tensor = self.norm(x)
        return x + y.relu()


def output_also_goes_past_the_norm() -> nn.Module:
    return Residual()


examples = (
    Example(convolution_in_front, finds=("0.bias",), inputs=normal(4, 3, 8, 8)),
    Example(layers_in_front, finds=("{0,3}.bias",), inputs=normal(16, 8)),
    Example(without_running_averages, finds=("0.bias",), inputs=normal(4, 3, 8, 8)),
    Example(view_that_keeps_the_channels, finds=("0.bias",), inputs=normal(4, 3, 8, 8)),
    Example(without_bias, inputs=normal(4, 3, 8, 8)),
    Example(rectifier_between, inputs=normal(4, 3, 8, 8)),
    Example(dropout_between, inputs=normal(4, 3, 8, 8)),
    Example(norm_in_evaluation_mode, inputs=normal(4, 3, 8, 8)),
    Example(group_norm, inputs=normal(4, 3, 8, 8)),
    Example(view_that_mixes_channels, inputs=normal(4, 3, 8, 8)),
    Example(output_also_goes_past_the_norm, inputs=normal(4, 3, 8, 8)),
)
