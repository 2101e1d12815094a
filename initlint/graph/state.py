"""What is known about each node while a graph is read.

`GraphState` owns one `NodeState` a node. The passes fill it in this order, and each needs only those before
it: `walk` (what is data, and where stored tensors meet it), `find_activations` (along the data),
`find_following` (against the data) and `find_residuals`. `wiring` and `usage` read what they left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch.fx import Graph, Node

from initlint.evidence import Use
from initlint.graph import aten, layouts
from initlint.graph.layouts import Layout, Shape
from initlint.graph.propagation import result_shape


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

    `inner` are the axes over which they were summed with each other; `picked` when an index chose.
    """

    layouts: dict[str, Layout] = field(default_factory=dict)
    inner: dict[str, tuple[int, ...]] = field(default_factory=dict)
    picked: bool = False


class Operand(NamedTuple):
    """A node among the arguments of another, and the position of its argument."""

    place: int
    node: NodeState


class Cut(NamedTuple):
    """A piece of the outputs of a weight: of which node, of which weight, and where it begins and ends."""

    whole: NodeState
    tensor: str
    ends: tuple[int, int]


@dataclass(slots=True, eq=False)
class NodeState:
    """One node of the graph, and what the passes find out about it."""

    fx: Node
    position: int
    operator: str  # folded name
    inputs: tuple[NodeState, ...]  # all nodes that it is computed from

    # walk
    data: bool = False  # the values depend on an input
    before: tuple[NodeState, ...] = ()  # data that it depends on
    flowing: tuple[NodeState, ...] = ()  # of these, data whose values flow on
    weights: tuple[str, ...] = ()  # parameters met here
    contracts: bool = False  # applies a parameter as weight, or looks it up
    carried: Carried | None = None
    tracked: dict[str, Layout] | None = None  # output axes of weights in data
    cut: Cut | None = None

    # activations
    base: NodeState = field(init=False)  # the node of which this one is an elementwise function
    depth: int = 0  # weights on the longest path from an input up to and including the node
    activation: str | None = None  # the activation that it computes
    partial: bool = False  # that activation is only a part of another one
    norm: bool = False  # it normalises
    normalised: bool = False  # no weight since the last normalisation
    attention: bool = False  # computes or applies attention scores
    gained: bool = False  # the product with the gain of a normalisation that divides only afterwards

    # following
    following: str = "none"  # the activation met before the next weight
    normalised_after: bool = False  # a normalisation is met before the next weight
    reaches_output: bool = False  # leaves the model without another weight

    # residuals
    residual: tuple[NodeState, NodeState] | None = None  # a residual addition: branch and stream
    ends_residual: bool = False  # last weight of a residual branch, or a gain or scale behind it

    def __post_init__(self) -> None:
        self.base = self

    @property
    def layouts(self) -> Mapping[str, Layout]:
        """The stored tensors that the node is made of."""
        return self.carried.layouts if self.carried is not None else {}

    @property
    def shape(self) -> Shape | None:
        """Shape of the result, from what it is made of if the graph does not say."""
        known = result_shape(self.fx)
        if known is None and self.layouts:
            return layouts.shape(next(iter(self.layouts.values())))
        return known

    @property
    def module(self) -> str:
        """Path of the module that ran the operator."""
        return self.fx.meta.get("module") or ""


@dataclass(frozen=True, slots=True)
class Meeting:
    """One place at which a stored tensor meets data.

    `role` is a role of Use, or "multiply", "add", "scale" where what the data is decides, or "declared".
    """

    tensor: str
    node: NodeState
    role: str
    partner: NodeState | None = None  # the data
    labelled: int = 0  # dimensions along which the tensor varies
    facts: Mapping[str, Any] = field(default_factory=dict)  # fans and axes of a product
    cuts: tuple[int, ...] = ()  # where along its output axis the tensor was sliced before
    source: NodeState | None = None  # the node that brings the tensor there


class GraphState:
    """The nodes of a graph in order, and the stored tensors that they read."""

    def __init__(self, graph: Graph, stored: Mapping[str, Stored]) -> None:
        self.stored = stored
        self.nodes: list[NodeState] = []
        self.meetings: list[Meeting] = []
        self.cuts: dict[str, set[int]] = {}  # where along a weight's outputs data is split
        #: Likewise within each head: by stride and length of the whole, starts and lengths of the pieces.
        self.woven: dict[str, dict[tuple[int, int], set[tuple[int, int]]]] = {}
        self._states: dict[Node, NodeState] = {}
        for position, node in enumerate(graph.nodes):
            operator = aten.operation(node.target) if node.op == "call_function" else node.op
            inputs = tuple([self._states[source] for source in node.all_input_nodes])
            self._states[node] = state = NodeState(node, position, operator, inputs)
            self.nodes.append(state)

    def __getitem__(self, node: Node) -> NodeState:
        return self._states[node]

    def parameters(self, node: NodeState) -> list[Stored]:
        """The parameters that a node is made of."""
        return [tensor for name in node.layouts if (tensor := self.stored[name]).parameter]

    def reads(self) -> Iterator[tuple[NodeState, Stored]]:
        """The nodes that read a stored tensor, each with it."""
        for node in self.nodes:
            if node.fx.op == "get_attr" and (tensor := self.stored.get(str(node.fx.target))) is not None:
                yield node, tensor
