"""What the stages found out about one model, joined into the evidence that rules read."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from initlint.construct import Hidden, hidden, mention
from initlint.engine.stages import Missing, Stages
from initlint.evidence import Evidence, ModuleRecord, Padding, Signal, Statistics, Tensor, Use, record_class
from initlint.graph import Leaf, Usage
from initlint.probe import Probe
from initlint.rule import NEEDS
from initlint.runtime import LOOKUPS
from initlint.values import read, schemes


def join(stages: Stages, *, dtype: str | None) -> Evidence:
    """One record of each tensor, module and signal. The probe ran in `dtype`, None: in the model's own."""
    construction, model = stages.construction, stages.construction.model
    owners = {path: module for module in construction.modules for path in module.paths}
    names = _names(model)
    statistics = _statistics(stages)
    evidence = Evidence(
        tensors=tuple(
            _tensor(
                stages, name, names[id(tensor)], statistics.get(name), owners.get(name.rpartition(".")[0])
            )
            for name, tensor in stages.tensors.items()
        ),
        modules=construction.modules,
        lost_writes=construction.lost_writes,
        member_tests=construction.member_tests,
        unregistered=construction.unregistered,
        ties=construction.ties,
        statements=construction.statements,
        rebuild=None if isinstance(stages.rebuild, Missing) else stages.rebuild,
        dtype=dtype or "float32",
        training=model.training,
        available=frozenset(need for need in NEEDS if need not in stages.missing),
    )
    if isinstance(stages.probe, Probe):
        return _with_signals(evidence, stages.probe, stages.usage, model)
    return evidence


def _names(model: nn.Module) -> dict[int, list[str]]:
    """All names of each parameter and buffer, by its id."""
    names: dict[int, list[str]] = {}
    for name, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), []).append(name)
    return names


# ---------------------------------------------------------------- tensors


def _statistics(stages: Stages) -> Mapping[str, Statistics | str]:
    """The statistics, with those of the parts of tensors that the graph splits."""
    parts = {n: u.parts for n, u in stages.usage.uses.items() if u.parts > 1 and n in stages.statistics}
    split = read({n: stages.tensors[n] for n in parts}, parts=parts) if parts else {}
    return {**stages.statistics, **split}


def _tensor(
    stages: Stages,
    name: str,
    names: Sequence[str],
    statistics: Statistics | str | None,
    owner: ModuleRecord | None,
) -> Tensor:
    """All that is known of one tensor; `statistics` is a text where there is a reason for having none."""
    tensor, provenance = stages.tensors[name], stages.construction.provenance[name]
    run = stages.probe if isinstance(stages.probe, Probe) else None
    known = statistics if isinstance(statistics, Statistics) else None
    use = stages.usage.uses.get(name)
    shape = tuple(tensor.shape) if not is_lazy(tensor) else ()
    unreached = run is not None and use is None and isinstance(tensor, nn.Parameter)
    confirmations = {} if isinstance(stages.confirmations, Missing) else stages.confirmations
    kind: Literal["parameter", "buffer"] = "parameter" if isinstance(tensor, nn.Parameter) else "buffer"
    return record_class(kind, use, known)(
        name=name,
        kind=kind,
        shape=shape,
        dtype=str(tensor.dtype).removeprefix("torch."),
        owner=name.rpartition(".")[0],
        owner_class=owner.class_name if owner else "",
        owner_package=owner.package if owner else None,
        aliases=tuple(other for other in names if other != name),
        requires_grad=tensor.requires_grad,
        unread=statistics if isinstance(statistics, str) else None,
        provenance=provenance,
        statistics=known,
        padding=_padding(tensor, owner, use) if known is not None else None,
        use=use,
        schemes=schemes(known, shape, use, provenance.last_write) if known is not None else (),
        gradient=run.gradients.get(name) if run else None,
        confirmation=confirmations.get(name),
        mention=mention(stages.construction.model, name) if unreached else None,
        updated=run is not None and name in run.updated,
    )


def _padding(tensor: torch.Tensor, owner: ModuleRecord | None, use: Use | None) -> Padding | None:
    """The padding row, told by the lookup itself or by `padding_idx` of the module that holds the table."""
    if tensor.dim() != 2 or tensor.is_meta or tensor.layout is not torch.strided:
        return None
    looked_up = use is not None and (use.role == "lookup" or use.lookup_too)
    row = use.padding if use is not None else None
    if row is None and owner is not None and (looked_up or owner.class_name in LOOKUPS):
        setting = owner.settings.get("padding_idx")
        row = setting if type(setting) is int else None
    if row is None or not -len(tensor) <= row < len(tensor):
        return None
    row %= len(tensor)
    return Padding(row, float(tensor.detach()[row].abs().max()) if tensor.shape[1] else 0.0)


# ---------------------------------------------------------------- signals


def _with_signals(evidence: Evidence, run: Probe, analysis: Usage, model: nn.Module) -> Evidence:
    """What the probe measured, with what the graph says about it."""
    taking_part = _reached(hidden(model), run.leaves)
    read = {signal.node for signal in run.signals}
    sources = _sources(read, analysis)
    leaving = {s for node in analysis.outputs for s in ((node,) if node in read else sources.get(node, ()))}
    return replace(
        evidence,
        signals=tuple(_annotated(signal, run, analysis, sources, leaving) for signal in run.signals),
        logits=tuple(replace(logit, weights=_readout(logit.node, analysis)) for logit in run.logits),
        modules=tuple(
            replace(
                module,
                calls=sum(run.calls.get(path, 0) for path in module.paths),
            )
            for module in evidence.modules
        ),
        unregistered=tuple(replace(item, reached=item.path in taking_part) for item in evidence.unregistered),
        created_in_forward=run.created,
        couplings=run.couplings,
    )


def _reached(found: Iterable[Hidden], leaves: Iterable[Leaf]) -> frozenset[str]:
    """Paths of what a run read as data. Indices do not count: they serve from any device."""
    read = {id(leaf.tensor) for leaf in leaves if not all(_indexes(leaf.node, n) for n in leaf.node.users)}
    return frozenset(item.path for item in found if any(id(tensor) in read for tensor in item.tensors))


def _indexes(node: fx.Node, user: fx.Node) -> bool:
    return user.target in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default) and (
        node is not user.args[0]
    )


def _sources(measured: Container[str], analysis: Usage) -> Mapping[str, tuple[str, ...]]:
    """For each node, the nearest measured ones whose values flow into it; a residual's stream first."""
    found: dict[str, tuple[str, ...]] = {}
    for node, facts in analysis.nodes.items():
        flowing = sorted(facts.flowing, key=lambda p: p != facts.stream)
        near = ((p,) if p in measured else found.get(p, ()) for p in flowing)
        found[node] = tuple(dict.fromkeys(name for names in near for name in names))
    return found


def _annotated(
    signal: Signal,
    run: Probe,
    analysis: Usage,
    sources: Mapping[str, tuple[str, ...]],
    leaving: Container[str],
) -> Signal:
    facts = analysis.nodes.get(signal.node)
    if facts is None:
        return signal
    first, second = run.operands.get(signal.node, (0.0, 0.0))
    branch, stream = (first, second) if facts.branch_first else (second, first)
    return replace(
        signal,
        depth=facts.depth,
        kind=signal.kind if signal.kind == "output" else facts.kind,
        weights=facts.weights or signal.weights,
        sources=sources[signal.node],
        leaves=signal.node in leaving,
        residual=facts.residual,
        branch_ratio=branch / stream if facts.residual and stream > 0 else None,
        summands=facts.summands,
        operands=run.operands.get(signal.node),
    )


def _readout(node: str, analysis: Usage) -> tuple[str, ...]:
    """The weights whose output is this node or reaches it without another weight."""
    facts = analysis.nodes.get(node)
    if facts is not None and any(n in analysis.uses and analysis.uses[n].fan_in for n in facts.weights):
        return facts.weights
    return tuple(n for n, use in analysis.uses.items() if use.reaches_output and use.fan_in is not None)
