"""IL205 wrong-fan."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import TYPE_CHECKING

from initlint import Example, Rule
from initlint.analysis import symptoms
from initlint.analysis.fans import NAMES, misreading

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding, Tensor
    from initlint.analysis.fans import Misreading


def stored_as_inputs_by_outputs() -> nn.Module:
    import torch
    from torch import nn

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
    import torch
    from torch import nn

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
    from torch import nn

    layer = nn.Conv1d(64, 64, 3, groups=64)
    nn.init.normal_(layer.weight, std=sqrt(2 / (3 * layer.out_channels)))
    return nn.Sequential(
        nn.Unflatten(1, (64, 2)), nn.ConstantPad1d(2, 0.1), layer, nn.ReLU(), nn.Conv1d(64, 4, 1)
    )


def dimension_zero_for_the_fan_in() -> nn.Module:
    from torch import nn

    wide, narrow = nn.Linear(8, 400), nn.Linear(400, 300)
    for layer in (wide, narrow):
        bound = 1 / sqrt(layer.weight.shape[0])  # 0.05 for the first: a round number by chance
        nn.init.uniform_(layer.weight, -bound, bound)
    return nn.Sequential(nn.Linear(128, 8), wide, nn.ReLU(), narrow, nn.ReLU(), nn.Linear(300, 4))


def projections_fused_head_by_head() -> nn.Module:
    from torch import nn

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
    import torch
    from torch import nn

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
    import torch
    from torch import nn

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
    import torch
    from torch import nn

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
    from torch import nn

    model = stored_as_inputs_by_outputs()
    nn.init.kaiming_uniform_(model.get_parameter("weight").t())
    return model


def backward_preserving_convolutions() -> nn.Module:
    from torch import nn

    convolutions = nn.Conv1d(64, 16, 1), nn.Conv1d(16, 64, 3)
    for layer in convolutions:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    first, second = convolutions
    return nn.Sequential(
        nn.Unflatten(1, (64, 2)), nn.ConstantPad1d(2, 0.1), first, nn.BatchNorm1d(16), nn.ReLU(), second
    )


def plain_number() -> nn.Module:
    from torch import nn

    model = stored_as_inputs_by_outputs()
    nn.init.normal_(model.get_parameter("weight"), std=0.1)
    return model


def rows() -> torch.Tensor:
    import torch

    return torch.randn(16, 128, generator=torch.Generator().manual_seed(0))


TOLERANCE = 1.25  # inputs are not quite independent: a layer may amplify more or less than std·√fan_in


class WrongFan(Rule):
    """A weight whose scale was computed from a number of inputs that it does not have.

    The std of a weight is gain/√fan_in, with fan_in the number of products that are summed into one output.
    torch.nn.init reads it off the shape as dimension 1 times all further ones. A weight used as x @ W, a
    stack of matrices, a grouped or transposed convolution, fused projections have another fan.

    Compute the std from the true fan, or draw on a view of the right shape: W.t() for x @ W, each matrix of
    a stack, each of the fused matrices. It is a note where nothing in the signal shows it, behind a
    normalisation for example.

    References:
        He et al., Delving Deep into Rectifiers, 2015, section 2.2, https://arxiv.org/abs/1502.01852
        torch.nn.init._calculate_fan_in_and_fan_out: "the tensor is used as x @ w.T".
    """

    code = "IL205"
    name = "wrong-fan"
    severity = "warning"
    needs = frozenset({"provenance", "statistics", "graph", "probe"})
    explained_by = {
        "repeated-init": "same",
        "overwritten-init": "same",
        "recipe-deviation": "same",
        "uninitialized-memory": "same",
    }
    examples = (
        Example(stored_as_inputs_by_outputs, finds=("weight",), inputs=rows),
        Example(stack_of_experts, finds=("first",), inputs=rows),
        Example(depthwise_by_hand, finds=("2.weight",), inputs=rows),
        Example(dimension_zero_for_the_fan_in, finds=("1.weight",), inputs=rows),
        Example(projections_fused_head_by_head, finds=("fused.weight",), inputs=rows),
        Example(gates_fused_in_a_convolution, finds=("gates.weight",), inputs=rows),
        Example(gates_drawn_apart, inputs=rows),
        Example(experts_averaged_by_a_softmax, inputs=rows),
        Example(relations_summed, inputs=rows),
        Example(transposed_before_the_draw, inputs=rows),
        Example(backward_preserving_convolutions, inputs=rows),
        Example(plain_number, inputs=rows),
    )

    #: Std over the right one, either way: xavier over three fused square projections is off by √2, over two
    #: that widen by 8/3 (SwiGLU) by 1.31.
    ratio: float = 1.3
    #: From here on a signal that nothing restores is off visibly (a fan four times too large or too small).
    visible: float = 1.9

    def check(self, model: Evidence) -> Iterator[Finding]:
        for weight in model.weights:
            wrong = misreading(model, weight)
            if wrong is None or max(wrong.ratio, 1 / wrong.ratio) < self.ratio:
                continue
            shows, figures, off = self._shows(model, weight, wrong), weight.statistics, wrong.ratio
            if not shows and wrong.by != "call" and weight.use and weight.use.reaches_output:
                continue  # 1/√fan_out is a known scale of a head
            fan = f"{NAMES[wrong.mode]} {wrong.true:.6g}"
            amount = f"{off:.3g} times too large" if off > 1 else f"{1 / off:.3g} times too small"
            yield self.finding(
                weight,
                f"{wrong.text}, but this weight is used with {fan}: its outputs are {amount}",
                measured={"fan": wrong.fan, "std": figures.std if figures else 0.0},
                expected={"fan": wrong.true, "std": wrong.gain / sqrt(wrong.true)},
                help=f"draw it with a std of {wrong.gain / sqrt(wrong.true):.3g}, computed from {fan}",
                severity=None if shows else "note",
            )

    def _shows(self, model: Evidence, weight: Tensor, wrong: Misreading) -> bool:
        """The signal is off as the fan is, and no normalisation corrects it."""
        if max(wrong.ratio, 1 / wrong.ratio) < self.visible or symptoms.decides(model, weight):
            return False
        if symptoms.of_excess(model, weight) if wrong.ratio > 1 else symptoms.of_lack(model, weight):
            return True
        factor, use = symptoms.amplification(model, weight), weight.use
        if factor is None or use is None or symptoms.restored(model, weight):
            return False
        if use.reaches_output and wrong.by != "call":
            return False
        off = factor / wrong.gain
        return off > self.visible / TOLERANCE if wrong.ratio > 1 else off < TOLERANCE / self.visible
