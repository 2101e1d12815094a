"""IL407 initial-loss."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite, log
from typing import TYPE_CHECKING

from initlint import Evidence, Example, Finding, Rule
from initlint.propagation import told, writers

if TYPE_CHECKING:
    import torch
    from torch import nn


def standard_normal_head() -> nn.Module:
    from torch import nn

    head = nn.Linear(64, 100)
    nn.init.normal_(head.weight)
    return nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), head)


def tied_to_a_standard_normal_table() -> nn.Module:
    from torch import nn

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
    from torch import nn

    head = nn.Linear(64, 10)
    nn.init.kaiming_normal_(head.weight, nonlinearity="relu")
    return nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), head)


def zero_head() -> nn.Module:
    from torch import nn

    head = nn.Linear(64, 10)
    nn.init.zeros_(head.weight)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), head)


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 64, generator=torch.Generator().manual_seed(0))


def tokens() -> torch.Tensor:
    import torch

    return torch.randint(0, 100, (4, 12), generator=torch.Generator().manual_seed(0))


class InitialLoss(Rule):
    """Logits so far from uniform that the first loss is a multiple of ln(classes).

    Before training no class is known to be likelier than another, and the cross-entropy of equal logits
    is ln(classes). Large random logits are confident and wrong: the first steps go into making them small.

    Draw the last layer smaller, for example with a standard deviation of 1/sqrt(fan_in) behind a
    normalisation, or start it at zero.

    References:
        Derrida, Random-energy model, 1981: a softmax over C values of spread s picks a single one once s
        exceeds sqrt(2 ln C); there the cross-entropy, ln C + s²/2, is twice ln C.
    """

    code = "IL407"
    name = "initial-loss"
    severity = "warning"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {
        "uninitialized-memory": "anywhere",
        "non-finite-parameter": "anywhere",
        "repeated-init": "anywhere",
        "exploding-signal": "anywhere",
        "huge-variance": "anywhere",
        "bound-exceeded": "same",
        "embedding-scale": "anywhere",
        "gain-mismatch": "anywhere",
        "wrong-fan": "anywhere",
        "biased-mean": "anywhere",
        "norm-scale": "anywhere",
        "running-stats": "anywhere",
    }
    examples = (
        Example(standard_normal_head, finds=("2.weight",), inputs=batch),
        Example(tied_to_a_standard_normal_table, finds=("table.weight",), inputs=tokens),
        Example(head_with_he_initialisation, inputs=batch),
        Example(zero_head, inputs=batch),
    )

    #: Multiple of ln(classes): half again above the point at which the softmax picks a single class.
    factor: float = 3.0

    def check(self, model: Evidence) -> Iterator[Finding]:
        for logits in model.logits:
            signal, uniform = model.signals_by_node.get(logits.node), log(logits.classes)
            if signal is None or not isfinite(logits.loss) or logits.loss <= self.factor * uniform:
                continue
            guilty = writers(model, signal)
            if not guilty:
                continue
            yield self.finding(
                guilty[0],
                f"the logits of {logits.classes} classes start with std {logits.std:.3g}: a cross-entropy of "
                f"{logits.loss:.3g}, where equal logits give {uniform:.3g}",
                related=[t.name for t in guilty[1:]],
                measured={"loss": logits.loss, "logit std": logits.std},
                expected={"loss": uniform, "logit std": "below 1"},
                help="draw the last layer smaller (std 1/√fan_in behind a norm), or start it at zero",
                locations=told([signal], guilty),
            )
