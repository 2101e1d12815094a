"""IL407 initial-loss."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite, log, prod
from typing import TYPE_CHECKING

from initlint import Example, Rule, theory
from initlint.analysis import symptoms
from initlint.analysis.culprits import writers
from initlint.analysis.locations import told
from initlint.analysis.signal_path import sources, upstream

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding, Signal

EVEN = 0.1  # a probability within this of one half is no prior
POOLING = ("scatter", "index_add", "index_put", "segment")
MANY = 1.5  # size of a sum over that of its operands together: it cannot exceed 1 unless many rows went in


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


def similarities_of_two_towers() -> nn.Module:
    import torch
    from torch import nn

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
    import torch
    from torch import nn

    class Margin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(10, 64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = nn.functional.normalize(self.weight)
            return 64 * nn.functional.linear(nn.functional.normalize(x), rows)

    return nn.Sequential(nn.Linear(64, 64), Margin())


def heat_map_without_prior() -> nn.Module:
    import torch
    from torch import nn

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
    import torch
    from torch import nn

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
    import torch
    from torch import nn

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score, self.embed = nn.Linear(100, 80), nn.Linear(100, 80)
            nn.init.zeros_(self.score.bias)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.sigmoid(self.score(x) / 10), self.embed(x)

    return Pairs()


def frames() -> torch.Tensor:
    import torch

    return torch.randn(2, 4, 100, generator=torch.Generator().manual_seed(0))


def heat_map_with_prior() -> nn.Module:
    from torch import nn

    model = heat_map_without_prior()
    nn.init.constant_(model.get_parameter("heat.bias"), -2.19)
    return model


def mask_of_one_class() -> nn.Module:
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.Sigmoid())


def pair() -> torch.Tensor:
    return batch()[:2]


def image() -> torch.Tensor:
    import torch

    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 64, generator=torch.Generator().manual_seed(0))


def tokens() -> torch.Tensor:
    import torch

    return torch.randint(0, 100, (4, 12), generator=torch.Generator().manual_seed(0))


class InitialLoss(Rule):
    """Outputs that start far from what is known before training, and a first loss far above its minimum.

    No class is known to be likelier than another, and the cross-entropy of equal logits is ln(classes).
    Large random logits are confident and wrong: the first steps go into making them small. Of the positions
    of a detector nearly all are background, so its map of objects is best started at a low probability.

    Draw the last layer smaller, for example with a standard deviation of 1/sqrt(fan_in) behind a
    normalisation, or start it at zero; start the bias of a dense map at the logarithm of a small prior. What
    an installed package chose is a note: its scales suit the sizes that it publishes. Rows that are divided
    by their norms are not blamed: the factor of the cosines decides the size of the logits.

    References:
        Lin et al., Focal Loss for Dense Object Detection, 2017, section 4.1: prior probability 0.01.
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
        "recipe-deviation": "same",
    }
    examples = (
        Example(standard_normal_head, finds=("2.weight",), inputs=batch),
        Example(tied_to_a_standard_normal_table, finds=("table.weight",), inputs=tokens),
        Example(head_with_he_initialisation, inputs=batch),
        Example(heat_map_without_prior, finds=("heat.bias",), inputs=image),
        Example(events_without_prior, finds=("event.bias",), inputs=frames),
        Example(similarities_of_two_towers, inputs=pair),
        Example(cosines_with_rows_of_classes, inputs=batch),
        Example(zero_head, inputs=batch),
        Example(heat_map_with_prior, inputs=image),
        Example(mask_of_one_class, inputs=image),
        Example(scores_of_pairs, inputs=frames),
    )

    #: Multiple of ln(classes): half again above the point at which the softmax picks a single class.
    factor: float = 3.0
    #: Positions from which on a map is dense: most of them are background.
    positions: int = 64

    def check(self, model: Evidence) -> Iterator[Finding]:
        yield from self._logits(model)
        yield from self._maps(model)

    def _maps(self, model: Evidence) -> Iterator[Finding]:
        """Dense maps of probabilities that start at one half, beside maps of something else."""
        maps = [s for s in model.signals if s.leaves and len(s.shape) > 2]
        for signal in maps:
            positions = prod(signal.shape[2:])
            beside = any(other.shape[2:] == signal.shape[2:] for other in maps if other is not signal)
            if signal.function != "sigmoid" or positions < self.positions or not beside:
                continue
            before = upstream(model, signal)
            used = [t for t in model.named(before.weights) if t.use is not None] if before is not None else []
            if not any(t.use.role == "kernel" for t in used if t.use is not None):
                continue  # the further axes are no positions
            biases = [t for t in used if t.use is not None and t.use.role == "shift"]
            if abs(signal.forward.mean - 0.5) < EVEN and signal.forward.std < EVEN and biases:
                yield self.finding(
                    biases[0],
                    f"each of {positions} positions starts with a probability of {signal.forward.mean:.2g}",
                    severity="note",
                    measured={"probability": signal.forward.mean},
                    expected={"probability": "the share of positions with an object, often 0.01"},
                    help="start the bias at -log((1 - p) / p) for a prior p, as -4.6 for 0.01",
                    locations=told([signal], biases),
                )

    def _logits(self, model: Evidence) -> Iterator[Finding]:
        for logits in model.logits:
            signal, uniform = model.signals_by_node.get(logits.node), log(logits.classes)
            if signal is None or not isfinite(logits.loss):
                continue
            if logits.loss <= self.factor * uniform * _chance(signal, logits.classes):
                continue
            guilty = tuple(t for t in writers(model, signal) if t.use is None or not t.use.wiring.unit)
            if not guilty or not symptoms.classifies(model, logits) or _pooled(model, signal):
                continue
            yield self.finding(
                guilty,
                f"the logits of {logits.classes} classes start with std {logits.std:.3g}: a cross-entropy of "
                f"{logits.loss:.3g}, where equal logits give {uniform:.3g}",
                measured={"loss": logits.loss, "logit std": logits.std},
                expected={"loss": uniform, "logit std": "below 1"},
                help="draw the last layer smaller (std 1/√fan_in behind a norm), or start it at zero",
                severity=self.note_if_published(guilty),
                locations=told([signal], guilty),
            )


def _chance(signal: Signal, classes: int) -> float:
    """What the draw of the weights alone may multiply the spread of logits by, and with it a large loss.

    Inputs that a network hardly tells apart share the logits of their classes, and add no values to these.
    """
    inputs = 1 + (signal.shape[0] - 1) * min(signal.across_inputs or 0.0, 1.0) ** 2 if signal.shape else 1
    return theory.std_interval(int(classes * inputs))[1]


def _pooled(model: Evidence, signal: Signal) -> bool:
    """Rows were summed behind the last weights: the number of neighbours makes the logits, not a draw."""
    way: Signal | None = signal
    while way is not None and way.kind != "weight":
        parts = sum(source.forward.rms for source in sources(model, way))
        sums = way.kind == "add" or any(name in way.function for name in POOLING)
        if sums and parts and way.forward.rms > MANY * parts:
            return True
        way = upstream(model, way)
    return False
