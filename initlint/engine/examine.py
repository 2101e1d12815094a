"""Lints one model: runs the stages that the rules need and lets the rules judge what they found out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

from torch import nn
from torch.nn.parameter import is_lazy

from initlint.construct import Construction, construct
from initlint.engine.explain import explain
from initlint.engine.gather import find_inputs, gather
from initlint.engine.join import join
from initlint.engine.judge import judge
from initlint.engine.settings import Clock, Loss, Settings
from initlint.engine.stages import Call, Graph, Request, Stages
from initlint.engine.verify import verify
from initlint.errors import TargetError
from initlint.report import Failure, ModelSummary, TargetReport
from initlint.rule import Need, Rule
from initlint.runtime import Inputs

MOST_SECONDS = 20.0  # of a first probe for which a second look at remedies is worth its time


def examine(
    name: str,
    load: Callable[[], Callable[[], nn.Module]],
    rules: Sequence[Rule],
    *,
    inputs: Callable[[], object] | None = None,
    loss: Callable[[], Loss] | None = None,
    module: Callable[[], ModuleType | None] = lambda: None,
    settings: Settings = Settings(),
    enter: Callable[[str], None] = lambda stage: None,
    borrowed: bool = False,
) -> TargetReport:
    """Lint the model that `load()()` builds; one that is `borrowed` keeps its lazy layers as they are.

    `inputs`, `loss` and `module` (the target's own, for its `example_inputs`) are called after the
    build. `enter` hears the name of every stage as it starts. Failures of the target are part of the
    report, beside what was found before.
    """
    clock = Clock(enter)
    needs = frozenset[Need]().union(*(rule.needs for rule in rules))
    request = Request(needs, inputs, loss, module, settings)
    try:
        construction = _construct(load, request, clock, borrowed=borrowed)
    except TargetError as error:
        return TargetReport(name, status="error", error=_failure(error), seconds=clock.seconds)
    stages = gather(construction, request, clock)
    with clock.stage("rules"):
        evidence = join(stages, dtype=settings.dtype)
        verdict = judge(rules, evidence, stages.missing)
    findings, failure = verdict.findings, stages.error or verdict.error
    if stages.error is None and clock.seconds.get("probe", 0.0) < MOST_SECONDS:
        with clock.stage("remedies"):
            findings = verify(findings, rules, stages, request)
    with clock.stage("rules"):
        findings = explain(findings, evidence, construction.model)
    call, graph = stages.call, stages.graph
    return TargetReport(
        target=name,
        status="error" if failure else "ok",
        error=_failure(failure) if failure else None,
        model=_summary(stages),
        trace=graph.trace.kind if isinstance(graph, Graph) else "none",
        inputs=call.inputs.source if isinstance(call, Call) else "none",
        inputs_text=call.inputs.text if isinstance(call, Call) else call.reason,
        seconds=clock.seconds,
        not_run=verdict.not_run,
        findings=findings,
        tensors=evidence.tensors,
        rules_run=len(rules) - len(verdict.not_run),
    )


def _construct(
    load: Callable[[], Callable[[], nn.Module]], request: Request, clock: Clock, *, borrowed: bool
) -> Construction:
    """The recorded build, its seconds on the clock; raises TargetError."""
    clock.enter("import")
    construction = construct(
        load,
        seed=request.settings.seed,
        enter=clock.enter,
        feed=lambda model: None if borrowed else _inputs_of_lazy(model, request),
    )
    clock.seconds.update(construction.seconds)
    return construction


def _inputs_of_lazy(model: nn.Module, request: Request) -> Inputs | None:
    """What gives a model's lazy layers their shapes; None where the probe will not run or will fail."""
    try:
        found = find_inputs(model, request) if request.settings.probe else None
    except TargetError:
        return None
    return found if isinstance(found, Inputs) else None


def _summary(stages: Stages) -> ModelSummary:
    """Size of a model: its parameters, each object once."""
    parameters = [t for t in stages.tensors.values() if isinstance(t, nn.Parameter) and not is_lazy(t)]
    return ModelSummary(
        class_name=type(stages.construction.model).__name__,
        parameters=len(parameters),
        elements=sum(p.numel() for p in parameters),
        bytes=sum(p.numel() * p.element_size() for p in parameters),
    )


def _failure(error: TargetError) -> Failure:
    """The error as the report shows it."""
    return Failure(error.stage, error.kind, error.message, error.file, error.line)
