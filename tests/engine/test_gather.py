"""Stages run in order, each leaves a result or a reason, and evidence can be judged elsewhere."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from initlint.construct import Construction, construct
from initlint.engine.gather import gather
from initlint.engine.join import join
from initlint.engine.judge import judge
from initlint.engine.settings import Clock, Settings
from initlint.engine.stages import Call, Graph, Missing, Request, Stages
from initlint.errors import TargetError
from initlint.probe import Probe
from initlint.registry import load
from initlint.rule import NEEDS, Need

ALL: frozenset[Need] = frozenset(NEEDS)


def healthy() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


def constant() -> nn.Module:
    model = healthy()
    nn.init.constant_(model.get_parameter("0.weight"), 0.1)
    return model


def built(build: Callable[[], nn.Module]) -> Construction:
    return construct(lambda: build, seed=0)


def given() -> object:
    return torch.randn(16, 8)


def refuse() -> object:
    raise TargetError("inputs", "ValueError", "none today")


def test_stages_run_in_order() -> None:
    entered: list[str] = []
    stages = gather(built(healthy), Request(ALL, given), Clock(entered.append))
    assert entered == ["statistics", "probe", "trace", "probe", "construct"]
    assert isinstance(stages.call, Call)
    assert isinstance(stages.probe, Probe)
    assert isinstance(stages.graph, Graph)
    assert stages.probe.trace is stages.graph.trace
    assert stages.missing == {}
    assert stages.error is None


def test_a_stage_that_nobody_needs_does_not_run() -> None:
    entered: list[str] = []
    stages = gather(built(healthy), Request(frozenset({"provenance"}), refuse), Clock(entered.append))
    assert (entered, stages) == ([], Stages(stages.construction))
    assert stages.missing == {}


def test_without_a_probe_the_graph_is_symbolic() -> None:
    request = Request(ALL, given, settings=Settings(probe=False))
    stages = gather(built(healthy), request, Clock())
    assert isinstance(stages.graph, Graph)
    assert stages.graph.trace.kind == "symbolic"
    assert stages.missing == {
        "probe": "no probe: --no-probe was given",
        "confirmation": "no probe: --no-probe was given",
    }
    assert stages.error is None


@pytest.mark.parametrize("inputs", [refuse, lambda: torch.randn(16, 3)])
def test_what_the_target_raises_is_kept_with_the_other_stages(inputs: Callable[[], object]) -> None:
    stages = gather(built(healthy), Request(ALL, inputs), Clock())
    assert stages.error is not None
    assert stages.error.message in stages.missing["probe"]
    assert stages.missing["confirmation"] == stages.missing["probe"]
    assert stages.statistics.keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert isinstance(stages.confirmations, Missing)


def test_a_model_that_existed_has_no_provenance_and_is_not_rebuilt() -> None:
    model = healthy()
    stages = gather(built(lambda: model), Request(ALL, given), Clock())
    assert stages.missing.keys() == {"provenance", "rebuild"}


def test_evidence_can_be_judged_elsewhere() -> None:
    rules = [rule() for rule in load().rules]
    stages = gather(built(constant), Request(ALL, given), Clock())
    evidence = join(stages, dtype=None)
    here = judge(rules, evidence, stages.missing)
    assert [finding.subject for finding in here.findings] == ["0.weight"]
    assert judge(rules, pickle.loads(pickle.dumps(evidence)), dict(stages.missing)) == here
