"""Generators: seeded alike for a body, and where they were afterwards."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from initlint.runtime import preserved, seed_generators, seeded


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_seeded_starts_anew_and_restores_when_the_body_raises() -> None:
    seed_generators(5)
    expected = draw()
    seed_generators(5)
    drawn = []

    def body() -> None:
        with seeded(3):
            drawn.append(draw())
            raise KeyError

    with pytest.raises(KeyError):
        body()
    assert draw() == expected
    with seeded(3):
        assert draw() == drawn[0]


def test_seeds_of_torch_may_be_larger_than_those_of_numpy() -> None:
    with seeded(2**40 + 1):
        one = draw()
    with seeded(2**40 + 1):
        assert draw() == one


def test_preserved_restores_every_generator() -> None:
    with seeded(1):
        expected = draw()
    with seeded(1):
        with preserved(torch.nn.Identity()):
            draw()
        assert draw() == expected
