"""What is known about each node while a graph is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from initlint.evidence import Use
from initlint.graph import layouts
from initlint.graph.layouts import Layout, Shape
from initlint.graph.propagation import result_shape

#: Position of a node's argument, and position of the node given there.
Operand = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stored:
    """A parameter or floating-point buffer; `owner` is the path of the module that holds it."""

    name: str
    shape: Shape
    parameter: bool
    owner: str
    declared: Use | None = None


@dataclass(slots=True)
class Carried:
    """The stored tensors that a node is made of, and where their axes are in it.

    `inner` are the axes over which they were summed with each other; `gathered` when an index chose.
    """

    layouts: dict[str, Layout] = field(default_factory=dict)
    inner: dict[str, tuple[int, ...]] = field(default_factory=dict)
    gathered: bool = False


@dataclass(frozen=True, slots=True)
class Meeting:
    """One place at which a stored tensor meets data.

    `role` is a role of Use, or "multiply", "add", "scale" where what the data is decides, or "declared".
    """

    tensor: str
    node: int
    role: str
    partner: int | None = None  # the data
    labelled: int = 0  # dimensions along which the tensor varies
    facts: Mapping[str, Any] = field(default_factory=dict)  # fans and axes of a product
    cuts: tuple[int, ...] = ()  # where along its output axis the tensor was sliced before
    source: int | None = None  # the node that brings the tensor there


@dataclass(slots=True)
class Consumption:
    """The graph's nodes by position, and what is known of them."""

    stored: Mapping[str, Stored]
    nodes: list[fx.Node] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # folded operator names
    position: dict[fx.Node, int] = field(default_factory=dict)
    data: list[bool] = field(default_factory=list)  # the values depend on an input
    before: list[tuple[int, ...]] = field(default_factory=list)  # data that a node depends on
    flowing: list[tuple[int, ...]] = field(default_factory=list)  # of these, data whose values flow on
    weights: list[tuple[str, ...]] = field(default_factory=list)  # parameters met at a node
    contracts: list[bool] = field(default_factory=list)  # applies a parameter as weight, or looks it up
    carried: list[Carried | None] = field(default_factory=list)
    tracked: list[dict[str, Layout] | None] = field(default_factory=list)  # output axes of weights in data
    meetings: list[Meeting] = field(default_factory=list)
    cuts: dict[str, set[int]] = field(default_factory=dict)  # where along a weight's outputs data is split
    #: likewise within each head: by stride and length of what is split, starts and lengths of the pieces
    woven: dict[str, dict[tuple[int, int], set[tuple[int, int]]]] = field(default_factory=dict)
    pieces: dict[int, tuple[int, str, tuple[int, int]]] = field(default_factory=dict)  # node -> whole, cut
    outputs: tuple[int, ...] = ()

    def shape(self, i: int) -> Shape | None:
        """Shape of a node's result, from what it is made of if the graph does not say."""
        known = result_shape(self.nodes[i])
        carried = self.carried[i]
        if known is None and carried is not None and carried.layouts:
            return layouts.shape(next(iter(carried.layouts.values())))
        return known

    def layouts(self, i: int) -> Mapping[str, Layout]:
        """The stored tensors that a node is made of."""
        carried = self.carried[i]
        return carried.layouts if carried is not None else {}

    def parameters(self, i: int) -> list[Stored]:
        """The parameters that a node is made of."""
        return [tensor for name in self.layouts(i) if (tensor := self.stored[name]).parameter]


@dataclass(slots=True)
class Flow:
    """Facts about each data node, by position in the graph."""

    depth: list[int]  # weights on the longest path from an input up to and including the node
    base: list[int]  # the node of which this one is an elementwise function
    activation: list[str | None]  # the activation that the node computes
    within: set[int]  # activations that are only a part of another one
    norm: list[bool]  # the node normalises
    normalised: list[bool]  # no weight since the last normalisation
    attention: list[bool]  # computes or applies attention scores
    following: list[str]  # the activation met before the next weight, "none" if there is none
    normalised_after: list[bool]  # a normalisation is met before the next weight
    reaches_output: list[bool]  # leaves the model without another weight
    residual: dict[int, tuple[int, int]]  # residual additions: branch and stream
    ends: set[int]  # last weights of residual branches, with the gains and scales behind them
    gains: set[int]  # products with the gain of a normalisation that divides only afterwards
