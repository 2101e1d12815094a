"""The recorded graph, and how it uses every tensor."""

from initlint.graph import aten
from initlint.graph.online import OnlineGraph, operator_kind, shape_of, source_of
from initlint.graph.recorder import GraphRecorder, Leaf, Made, Trace, ancestors, symbolic
from initlint.graph.usage import Usage, usage

__all__ = [
    "GraphRecorder",
    "Leaf",
    "Made",
    "OnlineGraph",
    "Trace",
    "Usage",
    "ancestors",
    "aten",
    "operator_kind",
    "shape_of",
    "source_of",
    "symbolic",
    "usage",
]
