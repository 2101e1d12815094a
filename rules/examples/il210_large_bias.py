"""Models for IL210 large-bias."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from initlint import Example
from initlint.testing import normal


def stack(bias: float, *, norm: bool = False) -> nn.Module:
    hidden = nn.Linear(32, 64)
    nn.init.constant_(hidden.bias, bias)
    between = nn.BatchNorm1d(64) if norm else nn.Identity()
    return nn.Sequential(hidden, between, nn.Tanh(), nn.Linear(64, 4))


def bias_of_ten() -> nn.Module:
    return stack(10.0)


def drawn_far_too_wide() -> nn.Module:
    hidden = nn.Linear(32, 64)
    nn.init.normal_(hidden.bias, std=30.0)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(64, 4))


def bias_of_one() -> nn.Module:
    return stack(1.0)


def taken_out_by_a_batch_norm() -> nn.Module:
    return stack(10.0, norm=True)


def forget_gate_bias() -> nn.Module:
    model = nn.LSTM(32, 16, batch_first=True)
    with torch.no_grad():
        model.get_parameter("bias_hh_l0")[16:32] = 5.0
    return model


def detection_prior() -> nn.Module:
    head = nn.Linear(32, 20)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.constant_(head.bias, -4.59512)  # a class prior of 0.01
    return nn.Sequential(head, nn.Sigmoid())


def prior_of_one_in_a_hundred_thousand() -> nn.Module:
    model = nn.Sequential(nn.Conv1d(6, 20, 1))
    nn.init.constant_(model.get_parameter("0.bias"), -11.5)
    return model


def row_of_outputs_at_minus_ten() -> nn.Module:
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 4))
    nn.init.constant_(model.get_parameter("2.bias"), -10.0)
    return model


def residual_branch(bias: float) -> nn.Module:
    """A branch whose last weight is zero, as usual."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.first, self.last = nn.LayerNorm(32), nn.Linear(32, 32), nn.Linear(32, 32)
            nn.init.zeros_(self.last.weight)
            nn.init.constant_(self.last.bias, bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            branch: torch.Tensor = self.last(self.first(self.norm(x)).relu())
            return x + branch

    return nn.Sequential(Block(), nn.Linear(32, 4))


def residual_branch_of_a_large_constant() -> nn.Module:
    return residual_branch(10.0)


def residual_branch_of_zeros() -> nn.Module:
    return residual_branch(0.0)


def queries_keys_and_values() -> nn.Module:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(64, 192), nn.Linear(64, 4)
            nn.init.constant_(self.qkv.bias, 10.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            logits: torch.Tensor = self.out(scaled_dot_product_attention(q, k, v))
            return logits

    return Attention()


def offsets_of_one_part_that_a_softmax_cancels() -> nn.Module:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.Linear(32, 32)
            self.offsets = nn.Parameter(torch.linspace(5.0, 12.0, 16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            values, scores = self.parts(x).chunk(2, -1)
            shares = (scores + self.offsets).softmax(1)  # over positions: each offset adds to all of them
            mixed: torch.Tensor = (shares * values).sum(1)
            return mixed

    return nn.Sequential(Mixer(), nn.Linear(16, 4))


def gate_that_starts_closed() -> nn.Module:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.value = nn.Linear(32, 64), nn.Linear(32, 64)
            nn.init.zeros_(self.gate.weight)
            nn.init.constant_(self.gate.bias, -10.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            gated: torch.Tensor = self.gate(x).exp() * self.value(x)
            return gated

    return Gated()


def steps_of_a_state_space() -> nn.Module:
    layer = nn.Linear(32, 64)
    with torch.no_grad():
        layer.weight.mul_(0.1)
        layer.bias.copy_(torch.expm1(torch.linspace(0.001, 0.1, 64)).log())
    return nn.Sequential(layer, nn.Softplus(), nn.Linear(64, 4))


examples = (
    Example(bias_of_ten, finds=("0.bias",), inputs=normal(16, 32)),
    Example(drawn_far_too_wide, finds=("0.bias",), inputs=normal(16, 32)),
    Example(queries_keys_and_values, finds=("qkv.bias",), inputs=normal(4, 6, 64)),
    Example(row_of_outputs_at_minus_ten, finds=("2.bias",), inputs=normal(16, 32)),
    Example(residual_branch_of_a_large_constant, finds=("0.last.bias",), inputs=normal(16, 32)),
    Example(residual_branch_of_zeros, inputs=normal(16, 32)),
    Example(bias_of_one, inputs=normal(16, 32)),
    Example(taken_out_by_a_batch_norm, inputs=normal(16, 32)),
    Example(forget_gate_bias, inputs=normal(4, 6, 32)),
    Example(detection_prior, inputs=normal(16, 32)),
    Example(prior_of_one_in_a_hundred_thousand, inputs=normal(4, 6, 32)),
    Example(offsets_of_one_part_that_a_softmax_cancels, inputs=normal(4, 6, 32)),
    Example(gate_that_starts_closed, inputs=normal(16, 32)),
    Example(steps_of_a_state_space, inputs=normal(16, 32)),
)
