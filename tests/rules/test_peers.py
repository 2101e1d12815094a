"""What other checkers call broken, and is not: parts of models that only a gradient or a use explains."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import initlint


class SelfAttention(nn.Module):
    """A bias on the keys shifts all scores of a row alike: its gradient is zero by construction."""

    def __init__(self, biases: Callable[[Tensor], object] = nn.init.zeros_) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.head = nn.Linear(32, 4)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            biases(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Classify sequences."""
        scores = self.query(x) @ self.key(x).transpose(-1, -2) / 32**0.5
        y: Tensor = self.head((scores.softmax(-1) @ self.value(x)).mean(1))
        return y


class ClassToken(nn.Module):
    """One vector for all inputs, at zero or nearly so, in front of the patches."""

    def __init__(self, draw: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.patches = nn.Linear(32, 32)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 32))
        self.pos_embed = nn.Parameter(torch.zeros(1, 9, 32))
        self.norm, self.mix, self.head = nn.LayerNorm(32), nn.MultiheadAttention(32, 4), nn.Linear(32, 4)
        draw(self.cls_token)
        nn.init.trunc_normal_(self.pos_embed, std=0.02, a=-0.04, b=0.04)

    def forward(self, x: Tensor) -> Tensor:
        """Classify by the token."""
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patches(x)], 1) + self.pos_embed
        y = self.norm(x).transpose(0, 1)
        x = x + self.mix(y, y, y, need_weights=False)[0].transpose(0, 1)
        logits: Tensor = self.head(x[:, 0])
        return logits


class LayerScale(nn.Module):
    """Residual branches that start at a millionth (Touvron et al., CaiT, 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(32, 32), nn.Linear(32, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(3))
        self.branches = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
        self.gammas = nn.ParameterList(nn.Parameter(1e-6 * torch.ones(32)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Classify sequences."""
        x = self.stem(x)
        for norm, branch, gamma in zip(self.norms, self.branches, self.gammas, strict=True):
            x = x + gamma * F.gelu(branch(norm(x)))
        y: Tensor = self.head(x.mean(1))
        return y


class Gated(nn.Module):
    """Outputs of a sigmoid near one, on purpose: a gate whose bias holds it open."""

    def __init__(self) -> None:
        super().__init__()
        self.carry, self.new, self.head = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        nn.init.constant_(self.carry.bias, 3.0)

    def forward(self, x: Tensor) -> Tensor:
        """Highway (Srivastava et al., 2015)."""
        gate = self.carry(x).sigmoid()
        y: Tensor = self.head((gate * x + (1 - gate) * self.new(x).tanh()).mean(1))
        return y


class Functional(nn.Module):
    """A weight that is used without calling its module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        """As Mamba does with its convolution."""
        y: Tensor = self.head(F.linear(x, self.inner.weight, self.inner.bias).relu().mean(1))
        return y


def scheme(draw: Callable[[Tensor], object], depth: int = 4) -> Callable[[], nn.Module]:
    """A stack drawn by a scheme in use."""

    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for _ in range(depth):
            layer = nn.Linear(32, 32)
            draw(layer.weight)
            layers += [layer, nn.LayerNorm(32), nn.ReLU()]
        head = nn.Linear(8 * 32, 4)
        nn.init.xavier_uniform_(head.weight)
        return nn.Sequential(*layers, nn.Flatten(1), head)

    return build


def default(weight: Tensor) -> object:
    return weight  # as torch.nn drew it


HEALTHY: dict[str, Callable[[], nn.Module]] = {
    "attention key bias": SelfAttention,
    "attention key bias, drawn": lambda: SelfAttention(lambda bias: nn.init.normal_(bias, std=0.02)),
    "attention of torch.nn": lambda: ClassToken(nn.init.zeros_),
    "class token of 1e-6": lambda: ClassToken(lambda token: nn.init.normal_(token, std=1e-6)),
    "class token of 0.02": lambda: ClassToken(lambda token: nn.init.normal_(token, std=0.02)),
    "LayerScale": LayerScale,
    "open gates": Gated,
    "weight without its module": Functional,
    "gradients that fall": scheme(lambda weight: nn.init.orthogonal_(weight, 0.7), depth=6),
    "variance 1/(3 fan_in)": scheme(default),
    "normal of 0.02": scheme(lambda weight: nn.init.normal_(weight, std=0.02)),
    "fan_out": scheme(lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out")),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_part_is_passed_over(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 8, 32)
    report = initlint.check(HEALTHY[name], x)
    assert report.targets[0].error is None
    assert [f"{f.code} {f.subject}: {f.message}" for f in report.at_least("warning")] == []


def test_the_key_bias_has_no_gradient_and_is_not_called_dead() -> None:
    """What makes the case hard is there: nothing but rounding reaches the bias."""
    torch.manual_seed(0)
    model = SelfAttention()
    model(torch.randn(16, 8, 32)).square().mean().backward()
    assert model.key.bias.grad is not None
    assert model.key.bias.grad.abs().max() < 1e-7 < model.query.weight.grad.abs().max()  # type: ignore[union-attr]
    report = initlint.check(SelfAttention, torch.randn(16, 8, 32))
    assert not [f for f in report.findings if f.subject == "key.bias" or "key.bias" in f.related]
