"""One forward and one backward of the model itself: what the signal and the gradients do.

Everything is measured while it flows: an output right after the operator that made it, its gradient by
a hook set before the next operator runs, so that in-place operators and freed activations do no harm.

Without a loss the backward starts from random directions on the outputs that no other output is made
from (logits, but neither caches nor the hidden states behind them). Each row, that is each position of
each input, gets a direction of norm 1/rows: the size that cross-entropy averaged over rows gives.
A single number is taken for a loss.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from initlint.errors import TargetError
from initlint.evidence import Coupling, Gradient, Logits, Scale, Signal, Unregistered
from initlint.graph import GraphRecorder, Leaf, Made, Trace, ancestors, aten
from initlint.probe.buffers import BufferWatch
from initlint.probe.meter import Meter, Reading
from initlint.probe.outputs import logits
from initlint.probe.reductions import duplicates, is_readable, scale
from initlint.probe.roots import Loss, directions, objective
from initlint.runtime import (
    CopyOnWrite,
    Inputs,
    Snapshot,
    drained,
    leaves,
    mapped,
    seed_generators,
    snapshot,
)
from initlint.source import blame

UNDERFLOW_SCALE = 2.0**12  # gradients that are zero in float16 but not with a loss scaled by this underflow


@dataclass(frozen=True, slots=True)
class Probe:
    """What one run showed; what the graph says of its signals is joined later."""

    trace: Trace
    signals: tuple[Signal, ...] = ()  # in order of execution
    operands: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # rms of what an addition adds
    gradients: Mapping[str, Gradient] = field(default_factory=dict)  # by first name; empty: no backward
    no_backward: str = ""  # why there are no gradients
    logits: tuple[Logits, ...] = ()
    calls: Mapping[str, int] = field(default_factory=dict)  # forward calls by first module path
    leaves: tuple[Leaf, ...] = ()  # tensors read that are neither registered nor given
    created: tuple[Unregistered, ...] = ()  # parameters that appeared during forward
    updated: frozenset[str] = frozenset()  # buffers that the forward changed
    couplings: tuple[Coupling, ...] = ()
    error: TargetError | None = None  # what the model raised; what was measured up to there is kept
    seconds: float = 0.0


def probe(
    model: nn.Module,
    inputs: Inputs,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> Probe:
    """Run `model` once forward and backward in its own mode; afterwards it is exactly as before.

    `dtype` converts parameters, buffers and floating inputs for the run, None keeps the model's own.
    `loss` is called with the output, and with the inputs if it takes two arguments. What the model
    raises is in `Probe.error`.
    """
    start = time.perf_counter()
    kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if torch.device(device).type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # before the generators are saved
    with _no_garbage_collection(), snapshot(model, inputs.args, inputs.kwargs) as kept, torch.enable_grad():
        seed_generators(seed)
        run = _Run(model, kept)
        with suppress(_StoppedError):  # `run.error` says what the model raised; what came before it counts
            run.forward(inputs, torch.device(device), kind)
            run.backward(loss, inputs, seed)
        result = run.result()
    return replace(result, seconds=time.perf_counter() - start)


class _StoppedError(Exception):
    """The model raised; `_Run.error` has it."""


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """No garbage collection: with large libraries imported it takes longer than a small model's run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(slots=True)
class _Run:
    """The state of one probe."""

    model: nn.Module
    kept: Snapshot
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    recorder: GraphRecorder = field(init=False)
    meter: Meter = field(init=False)
    output: Any = None
    results: list[tuple[fx.Node, torch.Tensor]] = field(default_factory=list)
    logits: tuple[Logits, ...] = ()
    gradients: dict[str, Gradient] = field(default_factory=dict)
    no_backward: str = "the forward raised"
    error: TargetError | None = None
    updated: frozenset[str] = frozenset()
    couplings: tuple[Coupling, ...] = ()

    def forward(self, inputs: Inputs, device: torch.device, dtype: torch.dtype | None) -> None:
        """The recorded run."""
        with self._blame_on_error():
            _convert(self.model, device, dtype)
            args, kwargs = _moved((inputs.args, dict(inputs.kwargs)), device, dtype)
        self.parameters = dict(nn.Module.named_parameters(self.model))
        for parameter in self.parameters.values():
            parameter.grad = None
        self.meter = Meter(_batch(args, kwargs))
        self.recorder = GraphRecorder(self.model, self.meter, self.kept.copy)
        buffers = BufferWatch(self.model)
        with self.recorder:
            self.meter.inputs(self.recorder.begin(args, kwargs))
            with self._blame_on_error():
                self.output = drained(self.model(*args, **kwargs))
            self.results = self.recorder.finish(self.output)
        self.updated, self.couplings = buffers.updated(), buffers.couplings()
        self.meter.outputs(self.results)
        self.logits = tuple(logits(self.results))

    def backward(self, loss: Loss | None, inputs: Inputs, seed: int) -> None:
        """Gradients of the loss, or of random directions on the outputs."""
        self.no_backward = "the backward raised"
        with self._blame_on_error():
            if loss is None:
                roots, towards = directions([t for _, t in self.results], seed)
            else:
                roots, towards = [objective(loss, self.output, inputs)], [None]
            self.output = None
            self.results = []
            if not roots:
                self.no_backward = "no output depends on a parameter"
                return
            half = any(p.dtype is torch.float16 for p in self.parameters.values())
            with CopyOnWrite(self.kept):
                torch.autograd.backward(roots, towards, retain_graph=half)
        self.no_backward = ""
        for name, parameter in self.parameters.items():
            if parameter.requires_grad:
                self.gradients[name] = _gradient(parameter.grad)
        if half:
            self._count_underflow(roots, towards)

    def _count_underflow(self, roots: list[torch.Tensor], directions: Sequence[torch.Tensor | None]) -> None:
        """Count what is zero only because float16 has nothing smaller: it appears under a scaled loss."""
        self.meter.muted = True
        first = {name: p.grad for name, p in self.parameters.items()}
        for parameter in self.parameters.values():
            parameter.grad = None
        scaled = [
            (torch.ones_like(r) if d is None else d) * UNDERFLOW_SCALE
            for r, d in zip(roots, directions, strict=True)
        ]
        with self._blame_on_error(), CopyOnWrite(self.kept):
            torch.autograd.backward(roots, scaled)
        for name, parameter in self.parameters.items():
            before, after = first.get(name), parameter.grad
            if before is not None and after is not None and before.layout is torch.strided:
                lost = float(((before == 0) & (after != 0)).float().mean())
                self.gradients[name] = replace(self.gradients[name], underflow=lost)

    def result(self) -> Probe:
        """All that was gathered."""
        if not hasattr(self, "recorder"):
            return Probe(Trace(None, "none", str(self.error)), error=self.error, no_backward=self.no_backward)
        self.meter.close()
        recorder = self.recorder
        reason = str(self.error) if self.error else ""
        return Probe(
            trace=Trace(recorder.graph, "recorded", reason),
            signals=tuple(_signal(r, self.parameters) for r in self.meter.readings.values()),
            operands={r.node.name: r.operands for r in self.meter.readings.values() if r.operands},
            gradients=self.gradients,
            no_backward=self.no_backward,
            logits=self.logits,
            calls=recorder.calls,
            leaves=tuple(recorder.leaves),
            created=tuple(_late_parameters(recorder)),
            updated=self.updated,
            couplings=self.couplings,
            error=self.error,
        )

    @contextmanager
    def _blame_on_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = blame("probe", error)
            raise _StoppedError from error


# ---------------------------------------------------------------- before the run
def _convert(model: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
    """Bring the model to the device and dtype of the run, if it is not there."""
    foreign = False
    for name, tensor in (*nn.Module.named_parameters(model), *nn.Module.named_buffers(model)):
        if tensor.is_meta:
            message = f"{name} is on the meta device and has no values to run with"
            raise TargetError("probe", "RuntimeError", message)
        foreign |= tensor.device.type != device.type
        foreign |= dtype is not None and tensor.is_floating_point() and tensor.dtype is not dtype
    if foreign:
        nn.Module.to(model, device=device, dtype=dtype)


def _moved(value: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    """The same nest with its tensors on the device, and floating ones in the dtype of the run."""

    def moved(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return item.to(device, dtype if dtype is not None and item.is_floating_point() else None)
        move = getattr(item, "to", None)
        return move(device) if callable(move) and not isinstance(item, (nn.Module, type)) else item

    return mapped(value, moved, object)


def _batch(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    """Number of inputs: the length of a list of tensors, or of the first tensor with a batch axis."""
    first = next(iter((*args, *kwargs.values())), None)
    if isinstance(first, list) and first and all(isinstance(item, torch.Tensor) for item in first):
        return len(first)
    given = list(leaves((args, kwargs)))
    batched = [t for t in given if t.dim() > 1] or [t for t in given if t.dim() == 1]
    return int(batched[0].shape[0]) if batched and batched[0].shape[0] else None


# ---------------------------------------------------------------- after the run
def _gradient(gradient: torch.Tensor | None) -> Gradient:
    if gradient is None:
        return Gradient(None)
    if gradient.layout is not torch.strided:
        gradient = (
            gradient.coalesce().values() if gradient.layout is torch.sparse_coo else gradient.to_dense()
        )
    if not is_readable(gradient):
        return Gradient(Scale(0.0, 0.0, 0.0, 0.0, 1.0))
    found = scale(gradient)
    return Gradient(found, duplicates(gradient, found.absmax))


def _signal(reading: Reading, parameters: Mapping[str, nn.Parameter]) -> Signal:
    found = reading.reductions
    return Signal(
        node=reading.node.name,
        module=reading.node.meta["module"],
        operation=reading.operation,
        function=aten.function(reading.operation),
        kind=reading.kind,
        shape=reading.shape,
        depth=0,
        site=reading.node.meta["site"],
        forward=found.scale,
        backward=reading.backward,
        weights=tuple(name for name in reading.weights if name in parameters),
        input_rms=reading.input_rms,
        units=found.units,
        dead_units=found.dead_units,
        observations=found.observations,
        saturated=reading.saturated,
        across_inputs=found.across_inputs,
        independence=found.independence,
    )


def _late_parameters(recorder: GraphRecorder) -> Iterator[Unregistered]:
    """Parameters made during the run, those of one module together."""
    late = [leaf for leaf in recorder.leaves if leaf.created]
    if not late and not recorder.made:
        return
    flowing = ancestors(recorder.graph.output_node())
    reached = {id(leaf.tensor) for leaf in late if leaf.node in flowing}
    modules: dict[int, list[Made]] = {}
    for made in recorder.made.values():
        modules.setdefault(id(made.module), []).append(made)
    for parts in modules.values():
        first = parts[0]
        registered = first.module_path is not None
        yield Unregistered(
            kind="parameter" if registered else "module",
            path=f"{first.module_path}.{first.name}".lstrip(".")
            if registered
            else type(first.module).__name__,
            owner=first.owner,
            container="forward",
            parameters=tuple(made.name for made in parts),
            elements=sum(made.tensor.numel() for made in parts),
            trainable=any(made.tensor.requires_grad for made in parts),
            site=first.site,
            assigned=first.caller,
            reached=any(id(made.tensor) in reached for made in parts),
        )
    for leaf in late:
        if id(leaf.tensor) not in recorder.made:
            owner, count = leaf.node.meta["module"], leaf.tensor.numel()
            flows = id(leaf.tensor) in reached
            yield Unregistered(
                kind="parameter",
                path=leaf.node.name,
                owner=owner,
                container="forward",
                elements=count,
                trainable=True,
                site=leaf.site,
                reached=flows,
            )
