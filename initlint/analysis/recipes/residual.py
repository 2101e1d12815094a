"""Residual branches that are switched off at the start, or added to a network that is frozen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint.analysis.families import duty
from initlint.analysis.recipes.recipe import Deviation, Recipe, writes, zero
from initlint.analysis.signal_path import is_weight

if TYPE_CHECKING:
    from initlint.evidence import Evidence, UsedTensor, Weight

#: Gates of one kind that differ by more than this do not follow one scheme; deep models grade theirs by 10.
APART = 30.0


def _kin(model: Evidence) -> Iterator[list[UsedTensor]]:
    """Tensors that end residual branches in the same way at other places."""
    groups: dict[tuple[object, ...], list[UsedTensor]] = {}
    for tensor in model.used_parameters:
        use = tensor.use
        if not use.ends_residual or use.role not in ("gain", "scalar", "matrix", "kernel"):
            continue
        groups.setdefault((duty(tensor), tensor.requires_grad), []).append(tensor)
    yield from (group for group in groups.values() if len(group) > 1)


def _meets(model: Evidence, tensor: UsedTensor, closed: list[UsedTensor]) -> bool:
    """It is added to the end of a closed branch: the projection that carries the stream past it."""
    mine, others = set(_weights(tensor)), {name for other in closed for name in _weights(other)}
    return any(
        one and other and mine.issuperset(one) and others.issuperset(other)
        for signal in model.signals
        if len(signal.summands) == 2
        for one, other in (signal.summands, signal.summands[::-1])
    )


def _alone(group: list[UsedTensor], closed: list[UsedTensor], opened: list[UsedTensor]) -> bool:
    """One matrix of zeros among several that are drawn; the last may be all that a loop has reached."""
    return (
        len(closed) == 1 < len(opened)
        and closed[0].use.role in ("matrix", "kernel")
        and closed[0] is not group[-1]
    )


def _weights(tensor: UsedTensor) -> tuple[str, ...]:
    """The matrices or kernels whose output it scales; itself, if it is one."""
    use = tensor.use
    return use.wiring.sources if use.role in ("gain", "scalar") else (tensor.name,)


def _deviations(model: Evidence) -> Iterator[Deviation]:
    for group in _kin(model):
        closed = [t for t in group if zero(t.statistics)]
        opened = [t for t in group if not zero(t.statistics)]
        if not closed:
            sizes = [(t.statistics.rms, t) for t in opened if t.statistics.constant]
            least = min((size for size, _ in sizes), default=0.0)
            large = [t for size, t in sizes if size > APART * least]
            closed, opened = [t for t in opened if t not in large], large
        opened = [t for t in opened if not _meets(model, t, closed)]
        if not closed or not opened:
            continue
        if _alone(group, closed, opened):
            opened, closed = closed, opened
        same = {t.family for t in closed}
        opened.sort(key=lambda t: t.family not in same)
        first, figures, other = opened[0], opened[0].statistics, closed[0].statistics
        more = f" and {len(closed) - 1} more like it" if len(closed) > 1 else ""
        yield Deviation(
            subject=first,
            message=f"ends a residual branch with rms {figures.rms:.3g}, "
            f"but {closed[0].name}{more} with {other.rms:.3g}",
            help="start every residual branch alike",
            measured={"rms": figures.rms},
            expected={"rms": other.rms},
            harms=first.family in same,  # at another place, as in a downsampling, it may be meant
            related=tuple(t.name for t in opened[1:]),
            locations=writes((*opened[:1], closed[0]), "writes the end of a residual branch"),
        )


def _flamingo(model: Evidence) -> Iterator[Deviation]:
    for gate in model.used_parameters:
        use, figures = gate.use, gate.statistics
        if use.role != "scalar" or not use.ends_residual or zero(figures):
            continue
        if any(step.operation == "tanh" for step in use.wiring.steps):
            yield Deviation(
                subject=gate,
                message=f"the gate of a residual branch starts at tanh({figures.mean:.3g}), not closed",
                help="set the gate to zero",
                measured={"gate": figures.rms},
                expected={"gate": 0.0},
            )


def _inserted(model: Evidence) -> Iterator[Deviation]:
    """Trainable layers whose output is added to that of frozen ones, and goes into frozen ones."""
    frozen = [w.use for w in (*model.weights, *model.unseen) if w.use and not w.requires_grad]
    for signal in model.signals:
        if signal.operands is None or len(signal.summands) != 2:
            continue
        for mine, others in (signal.summands, signal.summands[::-1]):
            weight = model.by_name[mine[0]] if len(mine) == 1 else None
            size = signal.operands[signal.summands.index(mine)]
            if not is_weight(weight) or not weight.requires_grad or not size:
                continue
            beside = [model.by_name[n] for n in others]
            disturbed = any(weight.name in use.wiring.sources for use in frozen)
            named = "zero" in f"{weight.name} {weight.owner_class}".lower()
            if named or (beside and not any(w.requires_grad for w in beside) and disturbed):
                yield _added(model, weight, size, named and not disturbed)
                break


def _added(model: Evidence, weight: Weight, size: float, named: bool) -> Deviation:
    rms = weight.statistics.rms
    gate = next(
        (
            t
            for t in model.used_parameters
            if t.use.role == "scalar" and t.use.wiring.sources == (weight.name,)
        ),
        None,
    )
    subject = gate if gate is not None and gate.use.ends_residual else weight
    return Deviation(
        subject=subject,
        message=f"adds a signal of rms {size:.3g} to the "
        + ("stream at the start" if named else "output of frozen layers at the start"),
        help="set the layer that ends the added branch to zero",
        measured={"rms of the branch": size, "rms of the weight": rms},
        expected={"rms of the branch": 0.0, "rms of the weight": 0.0},
        harms=not named,
        locations=writes(_closed(model), "sets the end of another branch to zero"),
    )


def _closed(model: Evidence) -> list[Weight]:
    """Trainable weights of zeros that end other added branches."""
    return [
        weight
        for weight in model.weights
        if weight.requires_grad
        and zero(weight.statistics)
        and any((weight.name,) in signal.summands for signal in model.signals)
    ]


ZERO_BRANCH = Recipe(
    name="zero residual branch",
    asks="every residual branch of a kind starts switched off, or none",
    reference="Goyal et al., Accurate, Large Minibatch SGD, 2017, section 5.1; Bachlechner et al., ReZero, "
    "2020; Touvron et al., Going deeper with Image Transformers, 2021, section 2",
    deviations=_deviations,
)
TANH_GATE = Recipe(
    name="tanh gate",
    asks="the gate of layers added to a pretrained model is tanh(0)",
    reference="Alayrac et al., Flamingo, 2022, section 2.2",
    deviations=_flamingo,
)
ZERO_CONVOLUTION = Recipe(
    name="added branch",
    asks="a trainable branch beside a frozen model ends in a layer of zeros",
    reference="Zhang, Rao & Agrawala, Adding Conditional Control to Text-to-Image Diffusion Models, 2023, "
    "section 3.1",
    deviations=_inserted,
    adapter=True,
)
