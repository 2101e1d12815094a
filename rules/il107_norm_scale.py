"""IL107 norm-scale."""

from __future__ import annotations

from collections.abc import Iterator
from math import hypot, sqrt
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.norms import inverse_lengths
from initlint.analysis.remedies import fill

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Tensor, Use, Write


class NormScale(Rule):
    """A normalisation whose gain does not start near one.

    Behind a normalisation the gain alone decides the scale of the signal. A gain drawn around zero
    shrinks every channel by its own factor and turns about half of the signs; a gain of one in a layer that
    multiplies by 1 + gain doubles the signal at every layer.

    Set the gain to one, or to zero where the layer adds one to it. A gain of zero is right at the end of
    a residual branch only.

    References:
        Ioffe and Szegedy, Batch Normalization, 2015, section 3; Ba, Kiros, Hinton, Layer Normalization,
        2016: the gain starts at one. Goyal et al., Accurate, Large Minibatch SGD, 2017, section 5.1: zero
        at the end of a residual block. Radford et al., DCGAN, 2016: N(1, 0.02).
    """

    code = "IL107"
    name = "norm-scale"
    severity = "warning"
    level = "normalisation"
    needs = frozenset({"statistics", "graph"})

    #: Root mean square distance of the gains from one: N(1, 0.02) has 0.02, a uniform draw from (0, 1) 0.58.
    distance: float = 0.5

    def check(self, model: Evidence) -> Iterator[Finding]:
        yield from self._inverted(model)
        for gain in model.used_parameters:
            figures, use = gain.statistics, gain.use
            if use.role != "gain" or use.offset is None:
                continue
            mean = figures.mean + use.offset
            if not hypot(mean - 1, figures.std) > self.distance:
                continue
            if _chosen(gain, use, mean) if figures.constant else not gain.drawn:
                continue
            last = gain.provenance.last_write
            wrote = f", written by {last.operation}" if last is not None and not last.default else ""
            added = f" + {use.offset:g}" if use.offset else ""
            yield self.finding(
                gain,
                f"the gain{added} of the normalisation has mean {mean:.3g} and std {figures.std:.3g}{wrote}",
                measured={"mean": mean, "std": figures.std},
                expected={"mean": 1.0, "std": 0.0},
                help=f"set it to {1 - use.offset:g}",
                suggestion=fill(gain, 1 - use.offset),
                severity="note" if last is not None and _meant(last) else None,
            )

    def _inverted(self, model: Evidence) -> Iterator[Finding]:
        """A length of 1/√n for vectors of n values, as the probe shows (√n in Nguyen & Salazar, 2019)."""
        for gain, reader, n, taken in inverse_lengths(model):
            length = gain.statistics.mean
            yield self.finding(
                gain,
                f"vectors of {n} values are normalised to the length {length:.3g} = 1/√{n}: "
                f"{reader.name} takes in values of rms {taken:.3g}",
                measured={"length": length, "rms": taken},
                expected={"length": sqrt(n), "rms": 1.0},
                help=f"set it to √{n} = {sqrt(n):.3g}",
                related=[reader.name],
            )


def _meant(draw: Write) -> bool:
    """Drawn about a positive mean that was written down, and narrow enough that few gains change the sign."""
    mean, std = draw.arguments.get("mean"), draw.arguments.get("std")
    return isinstance(mean, int | float) and isinstance(std, int | float) and 0 < mean >= std


def _chosen(gain: Tensor, use: Use, mean: float) -> bool:
    """Constant gains with a purpose: small at the end of a branch or of the model, any before a softmax."""
    if gain.provenance.loaded:
        return True
    if mean < 1:
        return use.ends_residual or use.reaches_output or use.activation == "softmax"
    norm = use.offset != 0 or "norm" in gain.owner_class.lower()
    return use.activation == "softmax" or not norm
