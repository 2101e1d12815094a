"""What the stages found out about one model, joined into the evidence that rules read."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from initlint.construct import Construction, Hidden, hidden, mention
from initlint.engine.padding import padding
from initlint.errors import TargetError
from initlint.evidence import Confirmation, Evidence, ModuleRecord, Rebuild, Signal, Statistics, Tensor
from initlint.graph import Leaf, Trace, Usage
from initlint.probe import Probe
from initlint.rule import NEEDS, Need
from initlint.runtime import Inputs
from initlint.values import read, schemes


@dataclass
class Gathered:
    """What the stages have found out so far, and why a kind of evidence is missing."""

    construction: Construction
    tensors: Mapping[str, torch.Tensor]
    statistics: Mapping[str, Statistics | str] = field(default_factory=dict)
    inputs: Inputs | None = None
    probe: Probe | None = None
    probed: float = 0.0  # seconds that it took
    trace: Trace = field(default_factory=lambda: Trace(None, "none", "no rule needs the graph"))
    usage: Usage | None = None
    confirmations: Mapping[str, Confirmation] = field(default_factory=dict)
    rebuild: Rebuild | None = None
    error: TargetError | None = None
    missing: dict[Need, str] = field(default_factory=dict)


def join(gathered: Gathered, *, dtype: str | None) -> Evidence:
    """One record of each tensor, module and signal. The probe ran in `dtype`, None: in the model's own."""
    construction, model = gathered.construction, gathered.construction.model
    owners = {path: module for module in construction.modules for path in module.paths}
    names = _names(model)
    figures = _figures(gathered)
    evidence = Evidence(
        tensors=tuple(
            _tensor(gathered, name, names[id(tensor)], figures.get(name), owners.get(name.rpartition(".")[0]))
            for name, tensor in gathered.tensors.items()
        ),
        modules=construction.modules,
        lost_writes=construction.lost_writes,
        member_tests=construction.member_tests,
        unregistered=construction.unregistered,
        ties=construction.ties,
        statements=construction.statements,
        rebuild=gathered.rebuild,
        dtype=dtype or "float32",
        training=model.training,
        available=frozenset(need for need in NEEDS if need not in gathered.missing),
    )
    if gathered.probe is not None and gathered.usage is not None:
        return _with_signals(evidence, gathered.probe, gathered.usage, model)
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


def _figures(gathered: Gathered) -> Mapping[str, Statistics | str]:
    """The statistics, with those of the parts of tensors that the graph splits."""
    uses = gathered.usage.uses if gathered.usage else {}
    parts = {n: u.parts for n, u in uses.items() if u.parts > 1 and n in gathered.statistics}
    split = read({n: gathered.tensors[n] for n in parts}, parts=parts) if parts else {}
    return {**gathered.statistics, **split}


def _tensor(
    gathered: Gathered,
    name: str,
    names: Sequence[str],
    figures: Statistics | str | None,
    owner: ModuleRecord | None,
) -> Tensor:
    """All that is known of one tensor; `figures` is a text where there is a reason for having none."""
    tensor, run, provenance = gathered.tensors[name], gathered.probe, gathered.construction.provenance[name]
    known = figures if isinstance(figures, Statistics) else None
    use = gathered.usage.uses.get(name) if gathered.usage else None
    shape = tuple(tensor.shape) if not is_lazy(tensor) else ()
    unreached = run is not None and use is None and isinstance(tensor, nn.Parameter)
    return Tensor(
        name=name,
        kind="parameter" if isinstance(tensor, nn.Parameter) else "buffer",
        shape=shape,
        dtype=str(tensor.dtype).removeprefix("torch."),
        owner=name.rpartition(".")[0],
        owner_class=owner.class_name if owner else "",
        owner_package=owner.package if owner else None,
        aliases=tuple(other for other in names if other != name),
        requires_grad=tensor.requires_grad,
        unread=figures if isinstance(figures, str) else None,
        provenance=provenance,
        statistics=known,
        padding=padding(tensor, owner, use) if known is not None else None,
        use=use,
        schemes=schemes(known, shape, use, provenance.last_write) if known is not None else (),
        gradient=run.gradients.get(name) if run else None,
        confirmation=gathered.confirmations.get(name),
        mention=mention(gathered.construction.model, name) if unreached else None,
        updated=run is not None and name in run.updated,
    )


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
