"""What a recipe is: a construction told by its structure, and what its paper asks of the initial values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from initlint.finding import Location

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Statistics, Tensor, UsedTensor
    from initlint.finding import Figure, Site


@dataclass(frozen=True, slots=True)
class Deviation:
    """A recognised construction that does not start as its recipe asks.

    `harms`: what was measured shows the damage, or other members of the same construction follow the recipe.
    """

    subject: Tensor
    message: str
    help: str
    measured: Mapping[str, Figure]
    expected: Mapping[str, Figure]
    harms: bool = False
    related: tuple[str, ...] = ()
    site: Site | None = None
    locations: tuple[Location, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Recipe:
    """One construction: what it asks, who says so, and how a model departs from it."""

    name: str
    asks: str
    reference: str
    deviations: Callable[[Evidence], Iterable[Deviation]]
    adapter: bool = False  # of what is added to a frozen model


# ---------------------------------------------------------------- views that several recipes need


def zero(figures: Statistics) -> bool:
    """Every value is exactly zero."""
    return figures.constant and figures.maximum == 0


def inputs(weight: UsedTensor) -> int:
    """Features that a weight takes, the receptive field left out."""
    axes = weight.use.contracted
    return prod(weight.shape[a] for a in (axes[:1] if weight.use.role == "kernel" else axes))


def outputs(weight: UsedTensor) -> int:
    """Features that a weight gives."""
    return prod(weight.shape[a] for a in weight.use.outputs)


def writes(tensors: Iterable[Tensor | None], what: str) -> tuple[Location, ...]:
    """The lines that wrote some tensors, each once."""
    sites = dict.fromkeys(tensor.site for tensor in tensors if tensor is not None)
    return tuple(Location(site, what) for site in sites if site is not None)
