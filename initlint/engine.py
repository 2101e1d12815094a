"""Lints one model: runs the stages that the rules need and lets the rules judge what they found out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint import inputs as probe_inputs
from initlint.behind import explained
from initlint.causes import settle
from initlint.confirm import OutOfTimeError, confirm, suspects
from initlint.construct import Construction, construct, rebuild
from initlint.errors import TargetError
from initlint.evidence import Evidence, Statistics
from initlint.finding import Finding
from initlint.inputs import Inputs, NotFound
from initlint.joining import Gathered, join
from initlint.probe import probe
from initlint.proof import proven
from initlint.report import Failure, ModelSummary, NotRun, TargetReport
from initlint.rule import NEEDS, Need, Rule
from initlint.statistics import read
from initlint.trace import symbolic
from initlint.usage import usage

Loss = Callable[..., torch.Tensor]

MOST_CONFIRMING = 60.0  # seconds of training steps that settle suspicions
MOST_SECONDS = 20.0  # of a first probe for which a second look at remedies is worth its time


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is probed. `dtype` None keeps the model's own."""

    device: str = "cpu"
    dtype: str | None = None
    seed: int = 0
    probe: bool = True
    input_shape: str | None = None


@dataclass
class Clock:
    """Seconds spent in each stage; tells `enter` which stage is starting."""

    enter: Callable[[str], None] = lambda stage: None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        self.enter(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


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
        return TargetReport(name, status="error", error=_failure(error), seconds=clock.seconds)
    clock.seconds.update(construction.seconds)
    needs = frozenset[Need]().union(*(rule.needs for rule in rules))
    gathered = _gather(construction, needs, clock, inputs, loss, module, settings)
    with clock.stage("rules"):
        evidence = join(gathered, dtype=settings.dtype)
        findings, not_run = _judge(rules, evidence, gathered.missing)
    if gathered.error is None and clock.seconds.get("probe", 0.0) < MOST_SECONDS:
        with clock.stage("remedies"):
            findings = _proven(findings, rules, gathered, loss, settings)
    with clock.stage("rules"):
        findings = explained(findings, evidence, construction.model)
    return TargetReport(
        target=name,
        status="error" if gathered.error else "ok",
        error=_failure(gathered.error) if gathered.error else None,
        model=_summary(construction.model, gathered.tensors),
        trace=gathered.trace.kind,
        inputs=gathered.inputs.source if gathered.inputs else "none",
        inputs_text=gathered.inputs.text if gathered.inputs else gathered.missing.get("probe", ""),
        seconds=clock.seconds,
        not_run=not_run,
        findings=findings,
        tensors=evidence.tensors,
        rules_run=len(rules) - len(not_run),
    )


def _proven(
    findings: tuple[Finding, ...],
    rules: Sequence[Rule],
    gathered: Gathered,
    loss: Callable[[], Loss] | None,
    settings: Settings,
) -> tuple[Finding, ...]:
    """The findings, with the suggestions that a second look at the remedied model confirms."""
    offering = {finding.rule for finding in findings if finding.suggestion is not None}
    judges = [rule for rule in rules if rule.name in offering]
    fed = gathered.inputs

    def look() -> tuple[Finding, ...]:
        second = _gather(
            gathered.construction,
            frozenset[Need]().union(*(rule.needs for rule in judges)),
            Clock(),
            (lambda: (fed.args, fed.kwargs)) if fed else None,
            loss,
            lambda: None,
            settings if fed else replace(settings, probe=False),
        )
        if second.error is not None:
            return findings
        return _judge(judges, join(second, dtype=settings.dtype), second.missing)[0]

    return proven(findings, gathered.construction.model, look, seed=settings.seed)


def _gather(
    construction: Construction,
    needs: frozenset[Need],
    clock: Clock,
    inputs: Callable[[], object] | None,
    loss: Callable[[], Loss] | None,
    module: Callable[[], ModuleType | None],
    settings: Settings,
) -> Gathered:
    model = construction.model
    gathered = Gathered(construction, _named(model))
    if not construction.recorded:
        gathered.missing["provenance"] = "the model was already built when it was handed over"
    if "statistics" in needs:
        with clock.stage("statistics"):
            gathered.statistics = read(gathered.tensors)
    criterion: Loss | None = None
    if needs & {"probe", "confirmation"}:
        with clock.stage("probe"):
            try:
                criterion = loss() if loss else None
                gathered.inputs = _inputs(gathered, inputs, module, settings)
            except TargetError as error:
                gathered.error = error
                gathered.missing["probe"] = f"no probe: {error.message}"
            if gathered.inputs is not None:
                _run_probe(gathered, criterion, settings)
    if needs & {"graph", "probe", "confirmation"}:
        with clock.stage("trace"):
            gathered.trace = gathered.probe.trace if gathered.probe else symbolic(model)
            gathered.usage = usage(gathered.trace, model)
            if gathered.trace.graph is None:
                gathered.missing["graph"] = f"no graph: {gathered.trace.reason}"
    if "confirmation" in needs:
        with clock.stage("probe"):
            _run_confirmation(gathered, criterion, settings)
    if "rebuild" in needs:
        with clock.stage("construct"):
            _rebuild(gathered, settings, demanded=needs <= {"provenance", "rebuild"})
    return gathered


#: A model is built again unasked if it has at most this many values, at about 20 ns for the draw of each …
REBUILD_VALUES = 20_000_000
REBUILD_SECONDS = 15.0  # … unless the constructor does more than draw (imports count, which are not repeated)


def _rebuild(gathered: Gathered, settings: Settings, *, demanded: bool) -> None:
    values = sum(t.numel() for t in gathered.tensors.values() if not is_lazy(t))
    seconds = gathered.construction.seconds.get("construct", 0.0)
    if not demanded and (values > REBUILD_VALUES or seconds > REBUILD_SECONDS):
        what = (
            f"has {values / 1e6:.0f} million values" if values > REBUILD_VALUES else f"takes {seconds:.0f} s"
        )
        gathered.missing["rebuild"] = f"the model {what} to build; select this rule alone to build it again"
        return
    gathered.rebuild = rebuild(gathered.construction, seed=settings.seed)
    if gathered.rebuild is None:
        gathered.missing["rebuild"] = "the model cannot be built a second time"


def _inputs(
    gathered: Gathered,
    inputs: Callable[[], object] | None,
    module: Callable[[], ModuleType | None],
    settings: Settings,
) -> Inputs | None:
    if not settings.probe:
        gathered.missing["probe"] = "no probe: --no-probe was given"
        return None
    if gathered.construction.inputs is not None:
        return gathered.construction.inputs
    meta = next((name for name, tensor in gathered.tensors.items() if tensor.is_meta), None)
    if meta is not None:
        raise TargetError("probe", "RuntimeError", f"{meta} is on the meta device and has no values")
    found = _sought(gathered.construction.model, inputs, module, settings)
    if isinstance(found, NotFound):
        gathered.missing["probe"] = f"no probe: {found.reason}"
        return None
    return found


def _sought(
    model: nn.Module,
    inputs: Callable[[], object] | None,
    module: Callable[[], ModuleType | None],
    settings: Settings,
) -> Inputs | NotFound:
    seed = settings.seed + 1  # under the seed of the build they would repeat the values of the first weights
    if inputs is not None:
        return probe_inputs.given(inputs())
    if settings.input_shape is not None:
        return probe_inputs.from_shape(settings.input_shape, model, seed=seed)
    return probe_inputs.find(model, module=module(), seed=seed)


def _feed(
    model: nn.Module,
    inputs: Callable[[], object] | None,
    module: Callable[[], ModuleType | None],
    settings: Settings,
) -> Inputs | None:
    """What gives a model's lazy layers their shapes; None where the probe will not run or will fail."""
    try:
        found = _sought(model, inputs, module, settings) if settings.probe else None
    except TargetError:
        return None
    return found if isinstance(found, Inputs) else None


def _run_probe(gathered: Gathered, loss: Loss | None, settings: Settings) -> None:
    assert gathered.inputs is not None
    start = time.perf_counter()
    gathered.probe = probe(
        gathered.construction.model,
        gathered.inputs,
        device=settings.device,
        dtype=settings.dtype,
        loss=loss,
        seed=settings.seed,
    )
    gathered.probed = time.perf_counter() - start
    if gathered.probe.error is not None:
        gathered.error = gathered.probe.error
        gathered.missing["probe"] = f"the probe failed: {gathered.probe.error.message}"


def _run_confirmation(gathered: Gathered, loss: Loss | None, settings: Settings) -> None:
    if gathered.probe is None or gathered.inputs is None or gathered.error is not None:
        gathered.missing["confirmation"] = gathered.missing.get("probe", "no probe")
        return
    figures = {n: s for n, s in gathered.statistics.items() if isinstance(s, Statistics)}
    uses = gathered.usage.uses if gathered.usage else {}
    doubtful = suspects(figures, gathered.probe.gradients, uses)
    if not doubtful:
        return
    try:
        gathered.confirmations = confirm(
            gathered.construction.model,
            gathered.inputs,
            doubtful,
            loss=loss,
            seed=settings.seed,
            probed=gathered.probed,
            budget=MOST_CONFIRMING,
        )
    except OutOfTimeError:
        gathered.missing["confirmation"] = (
            f"whether {len(doubtful)} tensors without gradient or with equal units learn was left open: "
            f"{MOST_CONFIRMING:g} s of training steps did not suffice"
        )


def _named(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by their first name, each object once."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _judge(
    rules: Sequence[Rule], evidence: Evidence, missing: Mapping[Need, str]
) -> tuple[tuple[Finding, ...], tuple[NotRun, ...]]:
    findings: list[Finding] = []
    not_run: list[NotRun] = []
    for rule in rules:
        reason = next((missing[need] for need in NEEDS if need in rule.needs and need in missing), None)
        if reason is not None:
            not_run.append(NotRun(rule.name, reason))
            continue
        findings.extend(rule.check(evidence))
    return settle(findings, rules, evidence), tuple(not_run)


def _summary(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> ModelSummary:
    parameters = [t for t in tensors.values() if isinstance(t, nn.Parameter) and not is_lazy(t)]
    return ModelSummary(
        class_name=type(model).__name__,
        parameters=len(parameters),
        elements=sum(p.numel() for p in parameters),
        bytes=sum(p.numel() * p.element_size() for p in parameters),
    )


def _failure(error: TargetError) -> Failure:
    return Failure(error.stage, error.kind, error.message, error.file, error.line)
