"""Models for IL402 saturated-activation."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def tanh_of_standard_normal_weights() -> nn.Module:
    hidden = nn.Linear(64, 64)
    nn.init.normal_(hidden.weight)
    return nn.Sequential(hidden, nn.Tanh(), nn.Linear(64, 4))


def gate_held_shut_by_its_bias() -> nn.Module:
    gate = nn.Linear(64, 64)
    nn.init.constant_(gate.bias, 10)
    return nn.Sequential(gate, nn.Sigmoid(), nn.Linear(64, 4))


def attention_on_one_key() -> nn.Module:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = nn.Linear(64, 64), nn.Linear(64, 64)
            nn.init.normal_(self.query.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = self.query(x) @ self.key(x).transpose(-2, -1)
            return torch.softmax(scores, -1) @ x

    return Attention()


def attention_of_scaled_cosines(log_scale: float) -> nn.Module:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = nn.Linear(64, 8), nn.Linear(64, 8), nn.Linear(64, 8)
            self.log_scale = nn.Parameter(torch.tensor(log_scale))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k = (nn.functional.normalize(f(x), dim=-1) for f in (self.query, self.key))
            scores = q @ k.transpose(1, 2) * self.log_scale.exp()
            y: torch.Tensor = scores.softmax(-1) @ self.value(x)
            return y

    return Attention()


def cosines_scaled_by_thousands() -> nn.Module:
    return attention_of_scaled_cosines(10.0)


def cosines_scaled_by_ten() -> nn.Module:
    return attention_of_scaled_cosines(2.3)


def tanh_with_its_own_gain() -> nn.Module:
    hidden = nn.Linear(64, 64)
    nn.init.xavier_normal_(hidden.weight, gain=nn.init.calculate_gain("tanh"))
    return nn.Sequential(hidden, nn.Tanh(), nn.Linear(64, 4))


def head_with_a_prior() -> nn.Module:
    head = nn.Linear(64, 4)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.constant_(head.bias, -4.6)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), head, nn.Sigmoid())


def open_gate() -> nn.Module:
    gate = nn.Linear(64, 64)
    nn.init.constant_(gate.bias, 3)
    return nn.Sequential(gate, nn.Sigmoid(), nn.Linear(64, 4))


examples = (
    Example(tanh_of_standard_normal_weights, finds=("0.weight", "0.bias", "1"), inputs=normal(16, 64)),
    Example(gate_held_shut_by_its_bias, finds=("0.bias", "0.weight", "1"), inputs=normal(16, 64)),
    Example(attention_on_one_key, finds=("query.weight", "query.bias"), inputs=normal(4, 6, 64)),
    Example(
        cosines_scaled_by_thousands,
        finds=("log_scale", "query.weight", "query.bias"),
        inputs=normal(4, 6, 64),
    ),
    Example(cosines_scaled_by_ten, inputs=normal(4, 6, 64)),
    Example(tanh_with_its_own_gain, inputs=normal(16, 64)),
    Example(head_with_a_prior, inputs=normal(16, 64)),
    Example(open_gate, inputs=normal(16, 64)),
)
