"""Models for IL108 running-stats."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example
from initlint.testing import normal


def variance_of_zeros() -> nn.Module:
    class BatchNorm(nn.Module):
        moving_mean: torch.Tensor
        moving_var: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("moving_mean", torch.zeros(8))
            self.register_buffer("moving_var", torch.zeros(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.batch_norm(x, self.moving_mean, self.moving_var, training=self.training)

    return nn.Sequential(nn.Linear(8, 8), BatchNorm())


def drawn_with_the_weights() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            nn.init.normal_(tensor, std=0.02)
    return model


def means_stored_as_sums() -> nn.Module:
    class Codebook(nn.Module):
        codes: torch.Tensor
        counts: torch.Tensor
        sums: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("codes", torch.randn(4, 8))
            self.register_buffer("counts", torch.full((4,), 16.0))
            self.register_buffer("sums", self.codes.clone())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            nearest = nn.functional.one_hot(torch.cdist(x, self.codes).argmin(-1), 4).type_as(x)
            with torch.no_grad():
                self.counts.lerp_(nearest.sum(0), 0.01)
                self.sums.lerp_(nearest.T @ x, 0.01)
                self.codes.copy_(self.sums / self.counts[:, None])
            return nearest @ self.codes

    return nn.Sequential(nn.Linear(8, 8), Codebook())


def sums_that_agree() -> nn.Module:
    model = means_stored_as_sums()
    model.get_buffer("1.sums").mul_(16.0)
    return model


def sums_corrected_by_a_count() -> nn.Module:
    class Scaler(nn.Module):
        running_var: torch.Tensor
        steps: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_var", torch.zeros(8))
            self.register_buffer("steps", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                self.steps += 1
                self.running_var.lerp_(x.var(0), 0.1)
            return x / (self.running_var / (1 - 0.9**self.steps)).sqrt()

    return nn.Sequential(nn.Linear(8, 8), Scaler())


def averaged_before_the_weights_were_drawn() -> nn.Module:
    model = nn.Linear(8, 8)
    model.register_buffer("ema", model.weight.detach().clone())
    nn.init.orthogonal_(model.weight)
    return model


def divided_by_zeros() -> nn.Module:
    class Rescaled(nn.Module):
        scale: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.zeros(8))
            self.net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.net(x / (self.scale + 1e-6))
            return y

    return Rescaled()


def divided_by_ones() -> nn.Module:
    model = divided_by_zeros()
    model.get_buffer("scale").fill_(1.0)
    return model


def untouched() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))


examples = (
    Example(variance_of_zeros, finds=("1.moving_var",), inputs=normal(16, 8)),
    Example(drawn_with_the_weights, finds=("1.running_var",), inputs=normal(16, 8)),
    Example(means_stored_as_sums, finds=("1.sums", "1.counts", "1.codes"), inputs=normal(16, 8)),
    Example(
        averaged_before_the_weights_were_drawn,
        finds=("ema", "weight"),
        severity="warning",
        inputs=normal(16, 8),
    ),
    Example(divided_by_zeros, finds=("scale",), inputs=normal(16, 8)),
    Example(divided_by_ones, inputs=normal(16, 8)),
    Example(sums_that_agree, inputs=normal(16, 8)),
    Example(sums_corrected_by_a_count, inputs=normal(16, 8)),
    Example(untouched, inputs=normal(16, 8)),
)
