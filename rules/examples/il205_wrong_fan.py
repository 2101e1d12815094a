"""Models for IL205 wrong-fan."""

from __future__ import annotations

from math import sqrt

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def stored_as_inputs_by_outputs() -> nn.Module:
    class Projection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(128, 8))
            self.readout = nn.Linear(8, 4)
            nn.init.kaiming_uniform_(self.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.readout(torch.relu(x @ self.weight))
            return logits

    return Projection()


def stack_of_experts() -> nn.Module:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Parameter(torch.empty(4, 128, 32))
            self.readout = nn.Linear(32, 4)
            nn.init.kaiming_normal_(self.first)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.einsum("bd,edh->beh", x, self.first)
            logits: torch.Tensor = self.readout(torch.relu(hidden).mean(1))
            return logits

    return Experts()


def depthwise_by_hand() -> nn.Module:
    layer = nn.Conv1d(64, 64, 3, groups=64)
    nn.init.normal_(layer.weight, std=sqrt(2 / (3 * layer.out_channels)))
    return nn.Sequential(
        nn.Unflatten(1, (64, 2)), nn.ConstantPad1d(2, 0.1), layer, nn.ReLU(), nn.Conv1d(64, 4, 1)
    )


def dimension_zero_for_the_fan_in() -> nn.Module:
    wide, narrow = nn.Linear(8, 400), nn.Linear(400, 300)
    for layer in (wide, narrow):
        bound = 1 / sqrt(layer.weight.shape[0])  # 0.05 for the first: a round number by chance
        nn.init.uniform_(layer.weight, -bound, bound)
    return nn.Sequential(nn.Linear(128, 8), wide, nn.ReLU(), narrow, nn.ReLU(), nn.Linear(300, 4))


def projections_fused_head_by_head() -> nn.Module:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fused, self.readout = nn.Linear(128, 3 * 128), nn.Linear(128, 4)
            nn.init.xavier_uniform_(self.fused.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            heads = self.fused(x[:, None]).view(len(x), 1, 8, 48).transpose(1, 2)
            q, k, v = heads.chunk(3, dim=-1)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
            logits: torch.Tensor = self.readout(mixed.transpose(1, 2).flatten(1))
            return logits

    return Attention()


def gates_fused_in_a_convolution(*, apart: bool = False) -> nn.Module:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gates, self.readout = nn.Conv1d(4, 64, 3, padding=1), nn.Conv1d(16, 4, 1)
            for weight in self.gates.weight.detach().chunk(4 if apart else 1):
                nn.init.xavier_uniform_(weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            i, f, o, g = self.gates(x.view(len(x), 4, 32)).chunk(4, 1)
            c = torch.sigmoid(f) + torch.sigmoid(i) * torch.tanh(g)
            y: torch.Tensor = self.readout(torch.sigmoid(o) * torch.tanh(c))
            return y

    return Cell()


def gates_drawn_apart() -> nn.Module:
    return gates_fused_in_a_convolution(apart=True)


def experts_averaged_by_a_softmax() -> nn.Module:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = nn.Linear(128, 8)
            self.up, self.down = nn.Parameter(torch.empty(8, 128, 64)), nn.Parameter(torch.empty(8, 64, 16))
            self.readout = nn.Linear(16, 4)
            for stack in (self.up, self.down):
                for matrix in stack.detach():
                    nn.init.xavier_uniform_(matrix)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.relu(torch.einsum("nd,edh->neh", x, self.up))
            mixed = torch.einsum("ne,neh,ehd->nd", self.router(x).softmax(-1), hidden, self.down)
            logits: torch.Tensor = self.readout(mixed)
            return logits

    return Mixture()


def relations_summed() -> nn.Module:
    class Relational(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.readout = nn.Parameter(torch.empty(6, 128, 32)), nn.Linear(32, 4)
            for matrix in self.weight.detach():
                nn.init.xavier_uniform_(matrix)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            neighbours = torch.stack([x.roll(shift, 0) for shift in range(6)])
            mixed = torch.relu(torch.einsum("rnd,rdh->nh", neighbours, self.weight))
            logits: torch.Tensor = self.readout(mixed)
            return logits

    return Relational()


def transposed_before_the_draw() -> nn.Module:
    model = stored_as_inputs_by_outputs()
    nn.init.kaiming_uniform_(model.get_parameter("weight").t())
    return model


def backward_preserving_convolutions() -> nn.Module:
    convolutions = nn.Conv1d(64, 16, 1), nn.Conv1d(16, 64, 3)
    for layer in convolutions:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    first, second = convolutions
    return nn.Sequential(
        nn.Unflatten(1, (64, 2)), nn.ConstantPad1d(2, 0.1), first, nn.BatchNorm1d(16), nn.ReLU(), second
    )


def plain_number() -> nn.Module:
    model = stored_as_inputs_by_outputs()
    nn.init.normal_(model.get_parameter("weight"), std=0.1)
    return model


examples = (
    Example(stored_as_inputs_by_outputs, finds=("weight",), inputs=normal(16, 128)),
    Example(stack_of_experts, finds=("first",), inputs=normal(16, 128)),
    Example(depthwise_by_hand, finds=("2.weight",), inputs=normal(16, 128)),
    Example(dimension_zero_for_the_fan_in, finds=("1.weight",), inputs=normal(16, 128)),
    Example(projections_fused_head_by_head, finds=("fused.weight",), severity="note", inputs=normal(16, 128)),
    Example(gates_fused_in_a_convolution, finds=("gates.weight",), severity="note", inputs=normal(16, 128)),
    Example(gates_drawn_apart, inputs=normal(16, 128)),
    Example(experts_averaged_by_a_softmax, inputs=normal(16, 128)),
    Example(relations_summed, inputs=normal(16, 128)),
    Example(transposed_before_the_draw, inputs=normal(16, 128)),
    Example(backward_preserving_convolutions, inputs=normal(16, 128)),
    Example(plain_number, inputs=normal(16, 128)),
)
