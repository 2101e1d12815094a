"""The recorded graph, and how it uses every tensor."""

from initlint.graph import aten
from initlint.graph.recorder import Leaf, Made, Recorder, Trace, ancestors, symbolic
from initlint.graph.usage import Usage, usage

__all__ = [
    "Leaf",
    "Made",
    "Recorder",
    "Trace",
    "Usage",
    "ancestors",
    "aten",
    "symbolic",
    "usage",
]
