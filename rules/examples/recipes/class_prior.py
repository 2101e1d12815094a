"""Dense detectors: the bias of the class head says how rare objects are."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


class Detector(nn.Module):
    """A class of sigmoids and a box at each position."""

    def __init__(self, prior: float) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 8, 3, padding=1)
        self.classes, self.boxes = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 4, 1)
        for layer, value in ((self.classes, prior), (self.boxes, 0.0)):
            assert layer.bias is not None
            nn.init.constant_(layer.bias, value)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.trunk(x).relu()
        return self.classes(x).sigmoid(), self.boxes(x)


def half_of_all_positions_are_objects() -> nn.Module:
    return Detector(0.0)


def one_position_in_a_hundred() -> nn.Module:
    return Detector(-4.6)


examples = (
    Example(half_of_all_positions_are_objects, finds=("classes.bias",), inputs=normal(2, 3, 8, 8)),
    Example(one_position_in_a_hundred, inputs=normal(2, 3, 8, 8)),
)
