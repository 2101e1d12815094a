"""Runs the stages that the rules need, in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint import inputs as probe_inputs
from initlint.construct import Construction, rebuild
from initlint.engine.join import Gathered
from initlint.engine.settings import Clock, Loss, Settings
from initlint.errors import TargetError
from initlint.evidence import Statistics
from initlint.graph import symbolic, usage
from initlint.inputs import NotFound
from initlint.probe import OutOfTimeError, confirm, probe, suspects
from initlint.rule import Need
from initlint.runtime import Inputs
from initlint.values import read

MOST_CONFIRMING = 60.0  # seconds of training steps that settle suspicions


def gather(
    construction: Construction,
    needs: frozenset[Need],
    clock: Clock,
    inputs: Callable[[], object] | None,
    loss: Callable[[], Loss] | None,
    module: Callable[[], ModuleType | None],
    settings: Settings,
) -> Gathered:
    """What the stages find out that the needed kinds of evidence ask for; failures are noted in it."""
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
    found = sought(gathered.construction.model, inputs, module, settings)
    if isinstance(found, NotFound):
        gathered.missing["probe"] = f"no probe: {found.reason}"
        return None
    return found


def sought(
    model: nn.Module,
    inputs: Callable[[], object] | None,
    module: Callable[[], ModuleType | None],
    settings: Settings,
) -> Inputs | NotFound:
    """Inputs that are given, made from a shape, hinted or searched for; raises TargetError."""
    seed = settings.seed + 1  # under the seed of the build they would repeat the values of the first weights
    if inputs is not None:
        return probe_inputs.given(inputs())
    if settings.input_shape is not None:
        return probe_inputs.from_shape(settings.input_shape, model, seed=seed)
    return probe_inputs.find(model, module=module(), seed=seed)


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
