"""IL108 running-stats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import hypot, isinf
from typing import TYPE_CHECKING

from initlint import Example, Location, Rule
from initlint.analysis.locations import way
from initlint.analysis.remedies import fill
from initlint.analysis.running_averages import counted, divisors, neutral, outdated

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Coupling, Evidence, Finding, Statistics, Tensor

DRAWING = re.compile(r"^nn\.init\.|\b(normal_|uniform_|randn?|random_|exponential_)$")


def variance_of_zeros() -> nn.Module:
    import torch
    from torch import nn

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
    from torch import nn

    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            nn.init.normal_(tensor, std=0.02)
    return model


def means_stored_as_sums() -> nn.Module:
    import torch
    from torch import nn

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
    import torch
    from torch import nn

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
    from torch import nn

    model = nn.Linear(8, 8)
    model.register_buffer("ema", model.weight.detach().clone())
    nn.init.orthogonal_(model.weight)
    return model


def divided_by_zeros() -> nn.Module:
    import torch
    from torch import nn

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
    from torch import nn

    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))


def batch() -> torch.Tensor:
    import torch

    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class RunningStats(Rule):
    """Running statistics that do not start where their updates expect them.

    Before the estimates have warmed up, evaluation divides by the root of the running variance: zeros make
    that a factor of 1/√eps, negative values NaN. A moving average that was copied before the weights were
    drawn pulls back to values that no model had. Where one buffer is recomputed from two others (means from
    sums and counts), buffers that disagree at the start throw the first away with the first update.

    Start means at zero, variances and deviations at one, and sums at means × counts.

    References:
        Ioffe and Szegedy, Batch Normalization, 2015, section 3.1. van den Oord et al., Neural Discrete
        Representation Learning, 2017, appendix A.1: means are sums divided by counts.
    """

    code = "IL108"
    name = "running-stats"
    severity = "error"
    needs = frozenset({"statistics", "probe"})
    explained_by = {"uninitialized-memory": "same"}
    examples = (
        Example(variance_of_zeros, finds=("1.moving_var",), inputs=batch),
        Example(drawn_with_the_weights, finds=("1.running_var",), inputs=batch),
        Example(means_stored_as_sums, finds=("1.sums",), inputs=batch),
        Example(averaged_before_the_weights_were_drawn, finds=("ema",), inputs=batch),
        Example(divided_by_zeros, finds=("scale",), inputs=batch),
        Example(divided_by_ones, inputs=batch),
        Example(sums_that_agree, inputs=batch),
        Example(sums_corrected_by_a_count, inputs=batch),
        Example(untouched, inputs=batch),
    )

    #: Root mean square distance from zero (means) or one (variances) of drawn values.
    distance: float = 0.5
    #: What enters a layer over what the signal was before, where a buffer of zeros is divided by.
    blown_up: float = 100.0
    #: Relative distance of means from sums / counts at the start.
    disagreement: float = 0.1

    def check(self, model: Evidence) -> Iterator[Finding]:
        yield from self._started(model)
        yield from self._divided(model)
        yield from (self._uncoupled(c, model) for c in model.couplings if c.disagreement > self.disagreement)
        yield from self._outdated(model)

    def _started(self, model: Evidence) -> Iterator[Finding]:
        for buffer in model.buffers:
            figures, start = buffer.statistics, neutral(model, buffer)
            if figures is None or start is None or figures.nans or buffer.provenance.unwritten:
                continue
            if (start == 1 and figures.minimum < 0) or self._departs(model, buffer, figures, start):
                spread = f" to {figures.maximum:.3g}" if not figures.constant else ""
                yield self.finding(
                    buffer,
                    f"a running {'variance' if start else 'mean'} starts at {figures.minimum:.3g}{spread}",
                    measured={"minimum": figures.minimum, "maximum": figures.maximum},
                    expected={"minimum": start, "maximum": start},
                    help=f"start it at {start:g}",
                    suggestion=fill(buffer, start),
                    locations=way(last) if (last := buffer.provenance.last_write) is not None else (),
                )

    def _departs(self, model: Evidence, buffer: Tensor, figures: Statistics, start: float) -> bool:
        if figures.constant:
            corrected = figures.mean == 0 and counted(model, buffer)
            return figures.mean != start and not corrected
        last = buffer.provenance.last_write
        drawn = last is not None and last.kind == "random" and DRAWING.search(last.operation) is not None
        return drawn and hypot(figures.mean - start, figures.std) > self.distance

    def _divided(self, model: Evidence) -> Iterator[Finding]:
        for buffer, factor in divisors(model):
            if factor > self.blown_up:
                much = "is not finite" if isinf(factor) else f"comes out {factor:.3g} times larger"
                yield self.finding(
                    buffer,
                    f"starts at 0, and the signal is divided by it: it {much}",
                    measured={"value": 0.0, "growth": factor},
                    expected={"value": "a variance or scale of 1"},
                    help="start it so that the division leaves the signal as it is",
                )

    def _uncoupled(self, coupling: Coupling, model: Evidence) -> Finding:
        nothing = isinf(coupling.disagreement)
        return self.finding(
            model.by_name[coupling.sums],
            f"{coupling.means} is recomputed as {coupling.sums} / {coupling.counts}, which at the start "
            + ("divides by zero" if nothing else f"is off by {coupling.disagreement:.3g} of its size")
            + f": the first training step changes its norm by a factor of {coupling.jump:.3g}",
            measured={"disagreement": coupling.disagreement},
            expected={"disagreement": 0.0},
            help=f"start {coupling.sums} at {coupling.means} × {coupling.counts}",
            related=[coupling.counts, coupling.means],
            locations=[
                Location(last.site, f"{name} written by {last.operation}")
                for name in (coupling.means, coupling.counts)
                if (last := model.by_name[name].provenance.last_write) is not None
            ],
        )

    def _outdated(self, model: Evidence) -> Iterator[Finding]:
        for copy, weight, write, std, current in outdated(model):
            yield self.finding(
                (copy, weight),
                f"a copy of {weight.name} that was made before {write.operation} wrote it again",
                measured={"std": std},
                expected={"std": current},
                help="copy the weights after they are initialised",
                severity="warning",
                locations=[Location(write.site, f"{weight.name} written by {write.operation}")],
            )
