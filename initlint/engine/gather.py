"""Runs the stages that the rules need, in order."""

from __future__ import annotations

from dataclasses import replace

from torch import nn
from torch.nn.parameter import is_lazy

from initlint import inputs
from initlint.construct import Construction, rebuild
from initlint.engine.settings import Clock
from initlint.engine.stages import Call, Graph, Missing, Request, Stages
from initlint.errors import TargetError
from initlint.evidence import Confirmation, Rebuild, Statistics
from initlint.graph import symbolic, usage
from initlint.inputs import NotFound
from initlint.probe import OutOfTimeError, Probe, confirm, probe, suspects
from initlint.runtime import Inputs
from initlint.values import read

MOST_CONFIRMING = 60.0  # seconds of training steps that settle suspicions
#: A model is built again unasked if it has at most this many values, at about 20 ns for the draw of each …
REBUILD_VALUES = 20_000_000
REBUILD_SECONDS = 15.0  # … unless the constructor does more than draw (imports count, which are not repeated)


def gather(construction: Construction, request: Request, clock: Clock) -> Stages:
    """The result of each stage that the request needs, in the order in which the stages run."""
    needs = request.needs
    stages = Stages(construction)
    if "statistics" in needs:
        with clock.stage("statistics"):
            stages = replace(stages, statistics=read(stages.tensors))
    if needs & {"probe", "confirmation"}:
        with clock.stage("probe"):
            stages = replace(stages, call=_call(stages, request))
            stages = replace(stages, probe=_probe(stages, request))
    if needs & {"graph", "probe", "confirmation"}:
        with clock.stage("trace"):
            stages = replace(stages, graph=_graph(stages))
    if "confirmation" in needs:
        with clock.stage("probe"):
            stages = replace(stages, confirmations=_confirmations(stages, request))
    if "rebuild" in needs:
        with clock.stage("construct"):
            stages = replace(stages, rebuild=_rebuild(stages, request))
    return stages


def find_inputs(model: nn.Module, request: Request) -> Inputs | NotFound:
    """Inputs that are given, made from a shape, hinted or searched for; raises TargetError."""
    settings = request.settings
    seed = settings.seed + 1  # under the seed of the build they would repeat the values of the first weights
    if request.inputs is not None:
        return inputs.given(request.inputs())
    if settings.input_shape is not None:
        return inputs.from_shape(settings.input_shape, model, seed=seed)
    return inputs.find(model, module=request.module(), seed=seed)


def _call(stages: Stages, request: Request) -> Call | Missing:
    """The loss and the inputs; those that lazy layers were given are used again."""
    try:
        loss = request.loss() if request.loss else None
        if not request.settings.probe:
            return Missing("no probe: --no-probe was given")
        if stages.construction.inputs is not None:
            return Call(stages.construction.inputs, loss)
        meta = next((name for name, tensor in stages.tensors.items() if tensor.is_meta), None)
        if meta is not None:
            raise TargetError("probe", "RuntimeError", f"{meta} is on the meta device and has no values")
        found = find_inputs(stages.construction.model, request)
    except TargetError as error:
        return Missing(f"no probe: {error.message}", error)
    return Missing(f"no probe: {found.reason}") if isinstance(found, NotFound) else Call(found, loss)


def _probe(stages: Stages, request: Request) -> Probe | Missing:
    """One forward and one backward."""
    if isinstance(stages.call, Missing):
        return stages.call
    settings = request.settings
    return probe(
        stages.construction.model,
        stages.call.inputs,
        device=settings.device,
        dtype=settings.dtype,
        loss=stages.call.loss,
        seed=settings.seed,
    )


def _graph(stages: Stages) -> Graph:
    """The graph that the probe recorded; without a probe the symbolic one."""
    model = stages.construction.model
    trace = stages.probe.trace if isinstance(stages.probe, Probe) else symbolic(model)
    return Graph(trace, usage(trace, model))


def _confirmations(stages: Stages, request: Request) -> dict[str, Confirmation] | Missing:
    """What training steps make of the tensors that may never learn."""
    call, run = stages.call, stages.probe
    if isinstance(call, Missing) or isinstance(run, Missing) or run.error is not None:
        return Missing(stages.missing.get("probe", "no probe"))
    statistics = {n: s for n, s in stages.statistics.items() if isinstance(s, Statistics)}
    doubtful = suspects(statistics, run.gradients, stages.usage.uses)
    try:
        return confirm(
            stages.construction.model,
            call.inputs,
            doubtful,
            loss=call.loss,
            seed=request.settings.seed,
            probed=run.seconds,
            budget=MOST_CONFIRMING,
        )
    except OutOfTimeError:
        return Missing(
            f"whether {len(doubtful)} tensors without gradient or with equal units learn was left open: "
            f"{MOST_CONFIRMING:g} s of training steps did not suffice"
        )


def _rebuild(stages: Stages, request: Request) -> Rebuild | Missing:
    """A second build, unless it takes long and other rules are asked for as well."""
    construction = stages.construction
    values = sum(t.numel() for t in stages.tensors.values() if not is_lazy(t))
    seconds = construction.seconds.get("construct", 0.0)
    demanded = request.needs <= {"provenance", "rebuild"}
    if not demanded and (values > REBUILD_VALUES or seconds > REBUILD_SECONDS):
        what = (
            f"has {values / 1e6:.0f} million values" if values > REBUILD_VALUES else f"takes {seconds:.0f} s"
        )
        return Missing(f"the model {what} to build; select this rule alone to build it again")
    again = rebuild(construction, seed=request.settings.seed)
    return again if again is not None else Missing("the model cannot be built a second time")
