"""IL402 saturated-activation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from initlint import Example, Rule, theory
from initlint.analysis import symptoms
from initlint.analysis.culprits import writers
from initlint.analysis.locations import told
from initlint.analysis.signal_path import spread, upstream

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding, Signal, Tensor

RAREST = -7.0  # logarithm of the odds of a thousandth


def tanh_of_standard_normal_weights() -> nn.Module:
    from torch import nn

    hidden = nn.Linear(64, 64)
    nn.init.normal_(hidden.weight)
    return nn.Sequential(hidden, nn.Tanh(), nn.Linear(64, 4))


def gate_held_shut_by_its_bias() -> nn.Module:
    from torch import nn

    gate = nn.Linear(64, 64)
    nn.init.constant_(gate.bias, 10)
    return nn.Sequential(gate, nn.Sigmoid(), nn.Linear(64, 4))


def attention_on_one_key() -> nn.Module:
    import torch
    from torch import nn

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
    import torch
    from torch import nn

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
    from torch import nn

    hidden = nn.Linear(64, 64)
    nn.init.xavier_normal_(hidden.weight, gain=nn.init.calculate_gain("tanh"))
    return nn.Sequential(hidden, nn.Tanh(), nn.Linear(64, 4))


def head_with_a_prior() -> nn.Module:
    from torch import nn

    head = nn.Linear(64, 4)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.constant_(head.bias, -4.6)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), head, nn.Sigmoid())


def open_gate() -> nn.Module:
    from torch import nn

    gate = nn.Linear(64, 64)
    nn.init.constant_(gate.bias, 3)
    return nn.Sequential(gate, nn.Sigmoid(), nn.Linear(64, 4))


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 64, generator=torch.Generator().manual_seed(0))


def sequences() -> torch.Tensor:
    import torch

    return torch.randn(4, 6, 64, generator=torch.Generator().manual_seed(0))


class SaturatedActivation(Rule):
    """An activation most of whose values lie on its flat part.

    Where sigmoid and tanh are flat, and where a softmax gives everything to one choice, next to no gradient
    passes: the layers in front learn slowly or not at all.

    Make the weights in front smaller, for example with nn.init.xavier_uniform_ and the gain of the
    activation, or move their bias. A few values near the ends are usual, and an output that starts at the
    prior of its class is meant to.

    References:
        Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
    """

    code = "IL402"
    name = "saturated-activation"
    severity = "warning"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {
        "uninitialized-memory": "upstream",
        "non-finite-parameter": "upstream",
        "repeated-init": "upstream",
        "biased-mean": "same",
        "exploding-signal": "upstream",
        "norm-scale": "upstream",
        "running-stats": "upstream",
        "scalar-constant": "same",
    }
    examples = (
        Example(tanh_of_standard_normal_weights, finds=("0.weight",), inputs=batch),
        Example(gate_held_shut_by_its_bias, finds=("0.bias",), inputs=batch),
        Example(attention_on_one_key, finds=("query.weight",), inputs=sequences),
        Example(cosines_scaled_by_thousands, finds=("log_scale",), inputs=sequences),
        Example(cosines_scaled_by_ten, inputs=sequences),
        Example(tanh_with_its_own_gain, inputs=batch),
        Example(head_with_a_prior, inputs=batch),
        Example(open_gate, inputs=batch),
    )

    #: Share of values within 1 % of an end (of softmax rows with one choice above 0.99). Normal
    #: pre-activations come there at a spread of 4 (tanh) or 7 (sigmoid), many times that of any scheme.
    share: float = 0.5

    def check(self, model: Evidence) -> Iterator[Finding]:
        for signal in model.signals:
            function = signal.function
            before = upstream(model, signal)
            if function not in theory.SATURATING or signal.saturated <= self.share or _prior(model, signal):
                continue
            guilty = writers(model, signal)
            if not guilty or before is None:
                continue
            scales = [
                t
                for t in model.parameters
                if t.use is not None
                and t.use.wiring.cosine
                and symptoms.hardens(model, t)
                and _behind(t, guilty)
            ]
            guilty = (*scales, *guilty)
            values = "rows" if function == "softmax" else "values"
            yield self.finding(
                guilty,
                f"{signal.saturated:.0%} of the {values} of the {function} behind it are on its flat part, "
                f"with inputs of rms {before.forward.rms:.3g}",
                related=[signal.module] if signal.module else (),
                measured={"saturated": signal.saturated, "pre-activation rms": before.forward.rms},
                expected={"saturated": f"below {self.share:g}", "pre-activation rms": "about 1"},
                help="make the factor of the cosines smaller"
                if scales
                else "make the weight smaller or move the bias: the inputs are best of size 1 around 0",
                severity=self.note_if_published(guilty),
                locations=told([signal], guilty),
            )


def _behind(factor: Tensor, weights: Iterable[Tensor]) -> bool:
    """It multiplies what these weights give."""
    return factor.use is not None and any(w.name in factor.use.wiring.sources for w in weights)


def _prior(model: Evidence, signal: Signal) -> bool:
    """The output of a head whose bias is the logarithm of a small prior, down to a thousandth."""
    before = upstream(model, signal)
    if before is None or not RAREST < before.forward.mean < -2 * spread(before):
        return False
    uses = [t.use for t in model.named(before.weights)]
    return signal.leaves or any(use is not None and use.reaches_output for use in uses)
