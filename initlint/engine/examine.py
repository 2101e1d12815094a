"""Lints one model: runs the stages that the rules need and lets the rules judge what they found out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

from torch import nn

from initlint.construct import construct
from initlint.engine.explain import explained
from initlint.engine.gather import gather, sought
from initlint.engine.join import join
from initlint.engine.judge import failure, judge, proven_findings, summary
from initlint.engine.settings import Clock, Loss, Settings
from initlint.errors import TargetError
from initlint.report import TargetReport
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
    try:
        enter("import")
        construction = construct(
            load,
            seed=settings.seed,
            enter=enter,
            feed=lambda model: None if borrowed else _feed(model, inputs, module, settings),
        )
    except TargetError as error:
        return TargetReport(name, status="error", error=failure(error), seconds=clock.seconds)
    clock.seconds.update(construction.seconds)
    needs = frozenset[Need]().union(*(rule.needs for rule in rules))
    gathered = gather(construction, needs, clock, inputs, loss, module, settings)
    with clock.stage("rules"):
        evidence = join(gathered, dtype=settings.dtype)
        findings, not_run = judge(rules, evidence, gathered.missing)
    if gathered.error is None and clock.seconds.get("probe", 0.0) < MOST_SECONDS:
        with clock.stage("remedies"):
            findings = proven_findings(findings, rules, gathered, loss, settings)
    with clock.stage("rules"):
        findings = explained(findings, evidence, construction.model)
    return TargetReport(
        target=name,
        status="error" if gathered.error else "ok",
        error=failure(gathered.error) if gathered.error else None,
        model=summary(construction.model, gathered.tensors),
        trace=gathered.trace.kind,
        inputs=gathered.inputs.source if gathered.inputs else "none",
        inputs_text=gathered.inputs.text if gathered.inputs else gathered.missing.get("probe", ""),
        seconds=clock.seconds,
        not_run=not_run,
        findings=findings,
        tensors=evidence.tensors,
        rules_run=len(rules) - len(not_run),
    )


def _feed(
    model: nn.Module,
    inputs: Callable[[], object] | None,
    module: Callable[[], ModuleType | None],
    settings: Settings,
) -> Inputs | None:
    """What gives a model's lazy layers their shapes; None where the probe will not run or will fail."""
    try:
        found = sought(model, inputs, module, settings) if settings.probe else None
    except TargetError:
        return None
    return found if isinstance(found, Inputs) else None
