"""Models for IL407 initial-loss."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal, tokens


def standard_normal_head() -> nn.Module:
    head = nn.Linear(64, 100)
    nn.init.normal_(head.weight)
    return nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), head)


def tied_to_a_standard_normal_table() -> nn.Module:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.norm = nn.Embedding(100, 64), nn.LayerNorm(64)
            self.head = nn.Linear(64, 100, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.norm(self.table(tokens)).roll(1, 1))
            return logits

    return Language()


def head_with_he_initialisation() -> nn.Module:
    head = nn.Linear(64, 10)
    nn.init.kaiming_normal_(head.weight, nonlinearity="relu")
    return nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), head)


def zero_head() -> nn.Module:
    head = nn.Linear(64, 10)
    nn.init.zeros_(head.weight)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), head)


def similarities_of_two_towers() -> nn.Module:
    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(64, 32), nn.Linear(64, 32)
            self.scale = nn.Parameter(torch.tensor(2.66))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = nn.functional.normalize(self.first(x), dim=-1)
            second = nn.functional.normalize(self.second(x), dim=-1)
            return self.scale.exp() * first @ second.T

    return Towers()


def cosines_with_rows_of_classes() -> nn.Module:
    class Margin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(10, 64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = nn.functional.normalize(self.weight)
            return 64 * nn.functional.linear(nn.functional.normalize(x), rows)

    return nn.Sequential(nn.Linear(64, 64), Margin())


def heat_map_without_prior() -> nn.Module:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, padding=1)
            self.heat, self.size = nn.Conv2d(16, 5, 1), nn.Conv2d(16, 2, 1)
            nn.init.normal_(self.heat.weight, std=0.01)
            nn.init.constant_(self.get_parameter("heat.bias"), 0)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = torch.relu(self.stem(x))
            return torch.sigmoid(self.heat(x)), self.size(x)

    return Detector()


def events_without_prior() -> nn.Module:
    class Events(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.event, self.edge = nn.Conv1d(4, 5, 1), nn.Conv1d(4, 2, 1)
            nn.init.normal_(self.event.weight, std=0.01)
            nn.init.zeros_(self.get_parameter("event.bias"))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.sigmoid(self.event(x)), self.edge(x)

    return Events()


def scores_of_pairs() -> nn.Module:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score, self.embed = nn.Linear(100, 80), nn.Linear(100, 80)
            nn.init.zeros_(self.score.bias)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.sigmoid(self.score(x) / 10), self.embed(x)

    return Pairs()


def heat_map_with_prior() -> nn.Module:
    model = heat_map_without_prior()
    nn.init.constant_(model.get_parameter("heat.bias"), -2.19)
    return model


def mask_of_one_class() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.Sigmoid())


def pair() -> torch.Tensor:
    return normal(16, 64)()[:2]


examples = (
    Example(standard_normal_head, finds=("2.weight", "2.bias"), inputs=normal(16, 64)),
    Example(tied_to_a_standard_normal_table, finds=("table.weight",), inputs=tokens(100, 4, 12)),
    Example(head_with_he_initialisation, inputs=normal(16, 64)),
    Example(heat_map_without_prior, finds=("heat.bias",), severity="note", inputs=normal(2, 3, 16, 16)),
    Example(events_without_prior, finds=("event.bias",), severity="note", inputs=normal(2, 4, 100)),
    Example(similarities_of_two_towers, inputs=pair),
    Example(cosines_with_rows_of_classes, inputs=normal(16, 64)),
    Example(zero_head, inputs=normal(16, 64)),
    Example(heat_map_with_prior, inputs=normal(2, 3, 16, 16)),
    Example(mask_of_one_class, inputs=normal(2, 3, 16, 16)),
    Example(scores_of_pairs, inputs=normal(2, 4, 100)),
)
