"""What is asked of the stages, and what each of them found out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType

import torch

from initlint.construct import Construction
from initlint.engine.settings import Loss, Settings
from initlint.errors import TargetError
from initlint.evidence import Confirmation, Rebuild, Statistics
from initlint.graph import Trace, Usage
from initlint.probe import Probe
from initlint.rule import Need
from initlint.runtime import Inputs


@dataclass(frozen=True, slots=True)
class Request:
    """The kinds of evidence to gather, and with what.

    `inputs`, `loss` and `module` (the target's own, for its `example_inputs`) are called after the build.
    """

    needs: frozenset[Need]
    inputs: Callable[[], object] | None = None
    loss: Callable[[], Loss] | None = None
    module: Callable[[], ModuleType | None] = lambda: None
    settings: Settings = Settings()


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a stage has no result. The reason is empty where nobody asked for one."""

    reason: str = ""
    error: TargetError | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What the probe calls the model with, and the loss of the result."""

    inputs: Inputs
    loss: Loss | None


@dataclass(frozen=True, slots=True)
class Graph:
    """The graph, and how it uses the tensors; declared uses alone where there is no graph."""

    trace: Trace
    usage: Usage


@dataclass(frozen=True)
class Stages:
    """The result of every stage, in order, or why there is none."""

    construction: Construction
    statistics: Mapping[str, Statistics | str] = field(default_factory=dict)
    call: Call | Missing = Missing()
    probe: Probe | Missing = Missing()
    graph: Graph | Missing = Missing()
    confirmations: Mapping[str, Confirmation] | Missing = Missing()
    rebuild: Rebuild | Missing = Missing()

    @cached_property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Parameters and buffers by their first name, each object once."""
        model = self.construction.model
        return dict(model.named_parameters()) | dict(model.named_buffers())

    @property
    def usage(self) -> Usage:
        """How the tensors are used; empty where nobody asked for the graph."""
        return self.graph.usage if isinstance(self.graph, Graph) else Usage()

    @property
    def error(self) -> TargetError | None:
        """What the target raised while it was probed."""
        return self.call.error if isinstance(self.call, Missing) else self.probe.error

    @cached_property
    def missing(self) -> Mapping[Need, str]:
        """The kinds of evidence that were asked for in vain, and why."""
        graph, error = self.graph, self.error
        reasons: dict[Need, str] = {
            "provenance": ""
            if self.construction.recorded
            else "the model was already built when it was handed over",
            "graph": f"no graph: {graph.trace.reason}"
            if isinstance(graph, Graph) and graph.trace.graph is None
            else "",
            "probe": _reason(self.call) or (f"the probe failed: {error.message}" if error else ""),
            "confirmation": _reason(self.confirmations),
            "rebuild": _reason(self.rebuild),
        }
        return {need: reason for need, reason in reasons.items() if reason}


def _reason(stage: object) -> str:
    return stage.reason if isinstance(stage, Missing) else ""
