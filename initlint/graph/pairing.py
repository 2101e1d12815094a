"""Which bias is added to the outputs of which weight, told by the graph, by name where it does not say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from initlint.evidence import Use

if TYPE_CHECKING:
    from initlint.graph.usage import NodeFacts

#: Roles of what a bias belongs to. A normalisation has its gain in place of a weight.
WEIGHTS = frozenset({"matrix", "kernel", "recurrent", "gain"})
SPELLINGS = (("weight", "bias"), ("kernel", "bias"), ("W", "b"), ("w", "b"))  # of a weight's bias in names


def paired(uses: Mapping[str, Use], nodes: Mapping[str, NodeFacts]) -> dict[str, Use]:
    """The uses, those of a weight with the name of its bias, those of a bias with that of its weight."""
    weights = {name: weight for name in uses if (weight := _weight(name, uses, nodes)) is not None}
    biases: dict[str, str] = {}
    for bias, weight in sorted(weights.items(), key=lambda pair: uses[pair[0]].node != uses[pair[1]].node):
        biases.setdefault(weight, bias)
    for weight in uses:
        if uses[weight].role in WEIGHTS and weight not in biases:
            for bias in _spelled(weight):
                if bias in uses and bias not in weights and uses[bias].role not in WEIGHTS:
                    biases[weight], weights[bias] = bias, weight
                    break
    return {name: replace(use, bias=biases.get(name), weight=weights.get(name)) for name, use in uses.items()}


def _weight(bias: str, uses: Mapping[str, Use], nodes: Mapping[str, NodeFacts]) -> str | None:
    """The weight to whose outputs a shift is added: in one operation, or with nothing computed between."""
    node = uses[bias].node
    if uses[bias].role != "shift" or node not in nodes:
        return None
    while True:
        found = [name for name, use in uses.items() if use.node == node and use.role in WEIGHTS]
        facts = nodes[node]
        if found or len(facts.flowing) != 1 or (node != uses[bias].node and facts.kind != "other"):
            break
        (node,) = facts.flowing
    if len(found) > 1:  # fused recurrent layers, weights that are merged before they are applied
        found = [name for name in found if bias in _spelled(name)]
    return found[0] if len(found) == 1 else None


def _spelled(weight: str) -> Iterator[str]:
    """Names that the bias of a weight may have."""
    path, _, local = weight.rpartition(".")
    for word, bias in (*SPELLINGS, (local, "bias")):
        if word in local:
            yield f"{path}.{local.replace(word, bias, 1)}".lstrip(".")
