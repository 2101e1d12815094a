"""Normalisations whose vectors are brought to another length than their readers expect."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from initlint.evidence import Evidence, UsedTensor, Weight


def inverse_lengths(model: Evidence) -> Iterator[tuple[UsedTensor, Weight, int, float]]:
    """Lengths of 1/√n for vectors of n values, as the probe shows, where √n gives each value the rms 1.

    With the length come the weight that takes in the vectors, n, and the rms of the values.
    """
    for gain in model.used_parameters:
        length, use = gain.statistics.mean, gain.use
        if gain.elements != 1 or length <= 0:
            continue
        if use.role != "scalar" or not use.normalised_before or use.wiring.cosine or use.wiring.steps:
            continue
        for reader in model.weights:
            taken, n = _taken(model, gain, reader), reader.use.fan_in
            if taken is None or not n or not isclose(length * sqrt(n), 1, rel_tol=1e-3):
                continue
            if isclose(taken * n, 1, rel_tol=0.1):
                yield gain, reader, n, taken
                break


def _taken(model: Evidence, gain: UsedTensor, reader: Weight) -> float | None:
    """Rms of what a weight takes in, if a gain is applied in front of it with no weight between."""
    one, other = gain.use, reader.use
    if other.depth != one.depth + 1:
        return None
    if one.wiring.sources != other.wiring.sources:
        return None
    signal = model.output_of(reader)
    return signal.input_rms if signal is not None else None
