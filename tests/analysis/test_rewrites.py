"""What counts as overwritten, and what as applied again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from initlint import check


class Table(nn.Module):
    """A buffer that is computed in the constructor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", self.compute())
        self.head = nn.Linear(8, 4)

    def compute(self) -> torch.Tensor:
        table = torch.arange(4.0)[:, None] * torch.arange(1.0, 9.0)
        table[0] = 0
        return table * 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(x + self.get_buffer("table"))
        return out


def computed_again() -> nn.Module:
    model = Table()
    model.get_buffer("table").copy_(model.compute())
    return model


def computed_by_other_lines() -> nn.Module:
    model = Table()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(torch.arange(32.0).view(4, 8).sin() if name else buffer)
    return model


def scaled_again() -> nn.Module:
    model = Table()
    shrink(model.head)
    shrink(model.head)
    return model


def shrink(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.copy_(layer.weight * 0.5)


class Override(nn.Module):
    """An initialiser that calls the general one first."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.tokens = nn.Embedding(5, 8)
        self.apply(self.particular)

    def general(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight.data[1])

    def particular(self, module: nn.Module) -> None:
        self.general(module)
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.3)
        if isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight.data[1])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.tokens(ids)
        for layer in self.layers:
            x = layer(x).relu()
        return x


def found(build: Callable[[], nn.Module], rule: str) -> list[str]:
    return [finding.subject for finding in check(build, select=[rule]).findings]


def test_a_table_that_is_computed_again_is_neither_overwritten_nor_applied_again() -> None:
    assert found(computed_again, "IL303") == []
    assert found(computed_by_other_lines, "IL303") == []
    assert found(computed_again, "IL305") == []


def test_copying_a_function_of_the_tensor_itself_is_applied_again() -> None:
    assert found(scaled_again, "IL305") == ["head.weight"]


def test_an_override_may_draw_again_and_zero_again() -> None:
    assert found(Override, "IL303") == []
