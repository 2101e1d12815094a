"""IL204 gain-mismatch."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import TYPE_CHECKING

from initlint import Example, Rule, theory
from initlint.analysis import symptoms
from initlint.analysis.chains import chains
from initlint.analysis.fans import rooted
from initlint.analysis.remedies import redraw

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn

    from initlint import Evidence, Finding, Tensor
    from initlint.analysis.chains import Chain
    from initlint.analysis.fans import Slip


def stack(
    depth: int, activation: Callable[[], nn.Module], draw: Callable[[torch.Tensor], object]
) -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(64, 64)
        draw(layer.weight)
        nn.init.zeros_(layer.bias)
        layers += [layer, activation()]
    return nn.Sequential(*layers, nn.Linear(64, 4))


def linear_gain_before_relu() -> nn.Module:
    from torch import nn

    return stack(10, nn.ReLU, nn.init.xavier_uniform_)


def selu_gain_of_pytorch() -> nn.Module:
    from torch import nn

    return stack(20, nn.SELU, lambda w: nn.init.kaiming_normal_(w, nonlinearity="selu"))


def forgotten_root() -> nn.Module:
    from torch import nn

    return stack(1, nn.ReLU, lambda w: nn.init.normal_(w, std=2 / 64))


def root_taken_twice() -> nn.Module:
    from torch import nn

    layer = nn.Linear(64, 48)
    readout = nn.Linear(48, 64)
    nn.init.normal_(readout.weight, std=48**-0.25)
    return nn.Sequential(layer, nn.ReLU(), readout, nn.Tanh(), nn.Linear(64, 4))


def default_written_out() -> nn.Module:
    from torch import nn

    return stack(10, nn.ReLU, lambda w: nn.init.kaiming_uniform_(w, a=5**0.5))


def linear_gain_before_glu() -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(8):
        layer = nn.Linear(64, 128)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        layers += [layer, nn.GLU()]
    return nn.Sequential(*layers, nn.Linear(64, 4))


def number_that_looks_like_a_formula() -> nn.Module:
    from torch import nn

    hidden = nn.Linear(32, 64)
    nn.init.normal_(hidden.weight, std=0.0625)  # 2/32
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), hidden, nn.ReLU(), nn.Linear(64, 4))


def default_written_out_in_a_shallow_stack() -> nn.Module:
    from torch import nn

    return stack(3, nn.ReLU, lambda w: nn.init.kaiming_uniform_(w, a=5**0.5))


def relu_gain_before_relu() -> nn.Module:
    from torch import nn

    return stack(10, nn.ReLU, nn.init.kaiming_uniform_)


def widening_layers_that_keep_the_gradient() -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    for n in (64, 128, 256, 512, 1024):
        layer = nn.Linear(n, 2 * n)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(2048, 4))


def orthogonal_layers_that_widen() -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    for n in (64, 128, 256, 512):
        layer = nn.Linear(n, 2 * n)
        nn.init.orthogonal_(layer.weight, 2**0.5)
        layers += [layer, nn.Hardswish()]
    return nn.Sequential(*layers, nn.Linear(1024, 4))


def xavier_before_tanh() -> nn.Module:
    from torch import nn

    return stack(10, nn.Tanh, nn.init.xavier_uniform_)


def shallow() -> nn.Module:
    from torch import nn

    return stack(2, nn.ReLU, nn.init.xavier_uniform_)


def normalised() -> nn.Module:
    from torch import nn

    return stack(10, lambda: nn.Sequential(nn.BatchNorm1d(64), nn.ReLU()), nn.init.xavier_uniform_)


def rows() -> torch.Tensor:
    import torch

    return torch.randn(32, 64, generator=torch.Generator().manual_seed(0))


class GainMismatch(Rule):
    """A chain of layers whose gain does not fit the activation between them.

    An activation takes a part of the signal's second moment: ReLU half of it. The gain of the weights has
    to give it back, √2 for ReLU, 1 for SELU; what is missing or too much multiplies from layer to layer.

    Use the gain of the activation: nn.init.kaiming_normal_(nonlinearity="relu") in front of ReLU,
    nonlinearity="linear" in front of SELU.

    References:
        He et al., Delving Deep into Rectifiers, 2015, section 2.2, https://arxiv.org/abs/1502.01852
        Klambauer et al., Self-Normalizing Neural Networks, 2017: weights of variance 1/n for SELU.
    """

    code = "IL204"
    name = "gain-mismatch"
    severity = "warning"
    needs = frozenset({"provenance", "statistics", "graph", "probe"})
    explained_by = {
        "wrong-fan": "same",
        "biased-mean": "same",
        "repeated-init": "same",
        "overwritten-init": "same",
    }
    examples = (
        Example(linear_gain_before_relu, finds=("0.weight", "18.weight"), inputs=rows),
        Example(selu_gain_of_pytorch, finds=("0.weight", "38.weight"), inputs=rows),
        Example(forgotten_root, finds=("0.weight",), inputs=rows),
        Example(root_taken_twice, finds=("2.weight",), inputs=rows),
        Example(default_written_out, finds=("0.weight", "18.weight"), inputs=rows),
        Example(linear_gain_before_glu, finds=("0.weight", "14.weight"), inputs=rows),
        Example(number_that_looks_like_a_formula, inputs=rows),
        Example(default_written_out_in_a_shallow_stack, inputs=rows),
        Example(relu_gain_before_relu, inputs=rows),
        Example(widening_layers_that_keep_the_gradient, inputs=rows),
        Example(orthogonal_layers_that_widen, inputs=rows),
        Example(xavier_before_tanh, inputs=rows),
        Example(shallow, inputs=rows),
        Example(normalised, inputs=rows),
    )

    #: Gain over the one that fits: nn.init's 5/3 for tanh, a round figure, is 1.05.
    ratio: float = 1.1
    #: Scale over the one with its root, either way: that of a fan of four, which harms little.
    slip: float = 2.0
    #: Growth or shrinkage at the end of a chain, predicted and measured: √2 a layer reaches it in four.
    total: float = 3.0
    #: Where that comes to a warning: five layers of Xavier before ReLU; three or four, as in graph networks,
    #: do not.
    visible: float = 5.0

    def check(self, model: Evidence) -> Iterator[Finding]:
        slips = list(self._slips(model))
        for weight, slip in slips:
            harms = slip.written < slip.meant or symptoms.of_excess(model, weight)
            yield self.finding(
                weight,
                f"{slip.text}: √({slip.formula}) = {slip.meant:.3g}",
                measured={"scale": slip.written},
                expected={"scale": slip.meant},
                severity=None if harms and not weight.published else "note",
                help=f"take the square root of {slip.formula} once: {slip.meant:.3g}",
            )
        told = {weight.name for weight, _ in slips}
        for chain in chains(model):
            if not told & {weight.name for weight in chain.weights}:
                yield from self._unsuited(model, chain)

    def _slips(self, model: Evidence) -> Iterator[tuple[Tensor, Slip]]:
        """Weights whose scale lost a root on its way, by enough to be seen behind them."""
        for weight in model.weights:
            slip = rooted(weight)
            if slip is None or symptoms.restored(model, weight):
                continue
            if max(slip.meant / slip.written, slip.written / slip.meant) >= self.slip:
                yield weight, slip

    def _unsuited(self, model: Evidence, chain: Chain) -> Iterator[Finding]:
        low, high = suited(chain.activation)
        if low / self.ratio <= chain.gain <= high * self.ratio:
            return
        expected = low if chain.gain < low else high
        grows = self._growth(chain, chain.gain / expected)
        effect = grows or self._saturation(model, chain, expected)
        if effect is None:
            return
        yield self.finding(
            chain.weights,
            f"gain {chain.gain:.3g} ({chain.text}) where {chain.activation} calls for {expected:.3g}: "
            f"{effect}",
            measured={"gain": chain.gain, "growth": chain.growth},
            expected={"gain": expected},
            severity="note" if 1 / self.visible < chain.growth < self.visible and grows else None,
            help=f"use the gain of {chain.activation}, {expected:.3g}: std = {expected:.3g}/√fan_in",
            suggestion=redraw(*chain.weights),
        )

    def _growth(self, chain: Chain, ratio: float) -> str | None:
        """The signal grows or shrinks as the gain predicts."""
        predicted = ratio**chain.steps
        if min(abs(log(predicted)), abs(log(chain.growth))) < log(self.total):
            return None
        if (chain.growth < 1) != (predicted < 1):
            return None
        verb = "grows" if chain.growth > 1 else "shrinks"
        times = max(chain.growth, 1 / chain.growth)
        return f"the signal {verb} {times:.3g} times over {chain.steps} layers"

    def _saturation(self, model: Evidence, chain: Chain, expected: float) -> str | None:
        """A bounded activation does not let the signal grow; it goes flat."""
        seen = symptoms.of_excess(model, chain.weights[-1]) if chain.gain > expected else None
        return seen.text if seen is not None and seen.kind == "saturation" else None


def suited(activation: str) -> tuple[float, float]:
    """Gains that suit an activation: what keeps the second moment, and for tanh 1 too (Glorot & Bengio)."""
    best = theory.gain(activation) or 1.0
    return (1.0, best) if activation in ("tanh", "softsign", "hardtanh", "elu") else (best, best)
