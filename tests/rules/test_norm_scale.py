"""What IL107 tells of lengths, which takes the probe of another rule to see."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from initlint import registry
from initlint.engine.examine import examine

RULES = [rule() for rule in registry.load().rules if rule.code in ("IL107", "IL407")]


class ScaleNorm(nn.Module):
    """Vectors of one learnable length."""

    def __init__(self, length: float) -> None:
        super().__init__()
        self.length = nn.Parameter(torch.tensor(length))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x / x.norm(dim=-1, keepdim=True).clamp(min=1e-5) * self.length
        return y


@pytest.mark.parametrize(("length", "found"), [(16**-0.5, ["1.length"]), (16**0.5, []), (1.0, [])])
def test_a_length_of_one_over_the_root(length: float, found: list[str]) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), ScaleNorm(length), nn.Linear(16, 4))

    report = examine("model", lambda: build, RULES, inputs=lambda: torch.randn(16, 8))
    assert [f.subject for f in report.findings if f.code == "IL107"] == found
