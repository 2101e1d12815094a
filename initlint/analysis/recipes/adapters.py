"""Trainable branches beside frozen weights, which leave the pretrained function as it is at the start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint.analysis.recipes.recipe import Deviation, Recipe, inputs, outputs, zero
from initlint.analysis.signal_path import is_used

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Signal, Tensor, UsedTensor, Weight

#: Branch over stream at the start. Houlsby et al. find that N(0, 0.01²) in both layers trains and that larger
#: values lose accuracy (section 3.6); that draw gives about 0.02, PyTorch's default 0.2.
NEAR_IDENTITY = 0.1
PRODUCTS = frozenset({"mm", "bmm", "matmul", "addmm", "addmm_", "baddbmm", "einsum", "linear"})
UNIT = 0.05  # factors this near to one change a frozen model less than dropout does


def _named(*tensors: Tensor) -> bool:
    """The adapted layer was named as one, where nothing is frozen yet when the model is built."""
    return any(word in f"{t.name} {t.owner_class}".lower() for t in tensors for word in ("lora", "adapter"))


def _down(model: Evidence, up: Weight) -> UsedTensor | None:
    """The first of two layers with a bottleneck between them, the second of which is `up`."""
    sources = up.use.wiring.sources
    down = model.by_name.get(sources[0]) if len(sources) == 1 else None
    if not is_used(down) or down is up:
        return None
    taken = down.use.fan_in or outputs(up)  # a kernel's field counted: the rank of what it can do
    return down if outputs(down) < min(taken, outputs(up)) else None


def _additions(model: Evidence, up: Tensor) -> Iterator[tuple[Signal, tuple[Tensor, ...], float]]:
    """Sums of which `up` alone makes one operand: the weights behind the other, and how large it is to it."""
    for signal in model.signals:
        if (up.name,) not in signal.summands or signal.operands is None:
            continue
        mine = signal.summands.index((up.name,))
        others = tuple(model.by_name[n] for n in signal.summands[1 - mine])
        if others and signal.operands[1 - mine] > 0:
            yield signal, others, signal.operands[mine] / signal.operands[1 - mine]


def _replaced(base: tuple[Tensor, ...], up: Tensor) -> bool:
    """The base was recomputed with a product after the factors were set: their sum may be what it was."""
    set_at = up.provenance.last_write.order if up.provenance.last_write is not None else 0
    for tensor in base:
        last = tensor.provenance.last_write
        writes = (last, *tensor.provenance.origins) if last is not None and last.order > set_at else ()
        if any(write.function in PRODUCTS for write in writes):
            return True
    return False


def _beside(model: Evidence, up: Weight, down: UsedTensor) -> tuple[tuple[Tensor, ...], float | None]:
    """The weights a low-rank pair is added to, and the size of what it adds to their output, if measured."""
    for _, others, ratio in _additions(model, up):
        same = tuple(t for t in others if t.use and t.use.wiring.sources == down.use.wiring.sources)
        if same:
            return same, ratio
    return (), None


def _merged(model: Evidence) -> Iterator[tuple[Weight, Weight, tuple[Weight, ...]]]:
    """Pairs whose product is added to a weight before it is applied: up, down, and that weight."""
    together: dict[str, list[Weight]] = {}
    for weight in model.weights:
        together.setdefault(weight.use.node, []).append(weight)
    for group in together.values():
        for up in group if len(group) == 3 else ():
            for down in group:
                (base,) = (
                    [t for t in group if t is not up and t is not down] or (None,)
                    if up is not down
                    else (None,)
                )
                if base is None or inputs(up) != outputs(down):
                    continue
                if outputs(up) == outputs(base) and inputs(down) == inputs(base) > outputs(down) < outputs(
                    up
                ):
                    yield up, down, (base,)


def _lora(model: Evidence) -> Iterator[Deviation]:
    found: list[tuple[Weight, UsedTensor, tuple[Tensor, ...], float | None]] = [
        (up, down, base, None) for up, down, base in _merged(model)
    ]
    for up in model.weights:
        down = _down(model, up)
        if down is not None and down.use.activation == "none":
            base, ratio = _beside(model, up, down)
            if base and ratio:
                found.append((up, down, base, ratio))
    for up, down, base, ratio in found:
        frozen = not any(t.requires_grad for t in base) and up.requires_grad and down.requires_grad
        if zero(up.statistics) or zero(down.statistics) or _replaced(base, up):
            continue
        if not (frozen or _named(up, down)):
            continue
        inner = _between(model, up, down)
        if any(zero(t.statistics) for t in inner):
            continue
        change = f" and change the output of {base[0].name} by {ratio:.0%}" if ratio else ""
        subject = inner[0] if inner else up
        rms = subject.statistics.rms
        others = [t for t in (up, down) if t is not subject]
        beside = " and ".join(f"{t.statistics.rms:.3g} in {t.name}" for t in others)
        factors = "the low-rank factors and what scales them" if inner else "both low-rank factors"
        yield Deviation(
            subject=subject,
            message=f"{factors} are random (rms {rms:.3g} here, {beside}){change} at the start",
            help=f"set {'the scales' if inner else 'the factor that is applied last'} to zero, for example "
            "nn.init.zeros_",
            measured={"rms": rms},
            expected={"rms": 0.0},
            harms=frozen,
            related=tuple(t.name for t in others) if inner else (),
        )


def _between(model: Evidence, up: Weight, down: UsedTensor) -> list[UsedTensor]:
    """Trainable scales, one for each rank, that a pair is multiplied by."""
    nodes = {up.use.node, down.use.node}
    return [
        t
        for t in model.used_parameters
        if t.use.role == "scalar"
        and t.use.node in nodes
        and t.elements == outputs(down)
        and t.requires_grad
        and not (t.statistics.constant and t.statistics.mean != 0)
    ]


def _bottleneck(model: Evidence) -> Iterator[Deviation]:
    for up in model.weights:
        down = _down(model, up)
        if down is None or down.use.activation == "none":
            continue
        for _, others, ratio in _additions(model, up):
            frozen = up.requires_grad and down.requires_grad and any(not t.requires_grad for t in others)
            if ratio > NEAR_IDENTITY and (frozen or _named(up, down)):
                yield Deviation(
                    subject=up,
                    message=f"the branch of {down.name} and this layer adds {ratio:.0%} to what it is "
                    "added to at the start",
                    help="set this layer to zero, or draw both with a std of at most 0.01",
                    measured={"branch to stream": ratio},
                    expected={"branch to stream": f"below {NEAR_IDENTITY}"},
                    harms=frozen,
                )
                break


def branch(model: Evidence, factor: UsedTensor) -> float | None:
    """A factor of what is added to a layer of the same inputs: the size of the one to that of the other."""
    sources = factor.use.wiring.sources
    for signal in model.signals:
        if signal.operands is None or len(signal.summands) != 2 or sources not in signal.summands:
            continue
        mine = signal.summands.index(sources)
        beside = [w.use.wiring.sources for w in model.named(signal.summands[1 - mine]) if w.use is not None]
        if sources in beside and signal.operands[1 - mine] > 0:
            return signal.operands[mine] / signal.operands[1 - mine]
    return None


def _factors(model: Evidence) -> Iterator[UsedTensor]:
    """Trainable factors on what frozen layers give to frozen layers."""
    for factor in model.used_parameters:
        use = factor.use
        if (
            not factor.requires_grad
            or use.role != "scalar"
            or use.ends_residual
            or use.offset is None
            or use.wiring.steps
        ):
            continue
        before = model.named(use.wiring.sources)
        readers = (*model.weights, *model.unseen)
        after = [w for w in readers if w.use and set(use.wiring.sources) & set(w.use.wiring.sources)]
        if before and after and not any(t.requires_grad for t in (*before, *after)):
            yield factor


def _vectors(model: Evidence) -> Iterator[Deviation]:
    """Branches of fixed matrices beside a frozen layer, of which only vectors are trained."""
    branches: dict[tuple[str, float], list[UsedTensor]] = {}
    for factor in _factors(model):
        ratio = branch(model, factor)
        if ratio:
            branches.setdefault((factor.owner, ratio), []).append(factor)
    for (_, ratio), factors in branches.items():
        subject = max(factors, key=lambda t: t.statistics.std)
        rms = subject.statistics.rms
        yield Deviation(
            subject=subject,
            message=f"scales a branch beside a frozen layer and starts at rms {rms:.3g}: "
            f"the output changes by {ratio:.0%} at the start",
            help="set the factor that is applied last to zero, for example nn.init.zeros_",
            measured={"rms": rms},
            expected={"rms": 0.0},
            harms=True,
            related=tuple(t.name for t in factors if t is not subject),
        )


def _rescaling(model: Evidence) -> Iterator[Deviation]:
    for factor in _factors(model):
        use, figures = factor.use, factor.statistics
        mean = figures.mean + (use.offset or 0.0)
        if max(abs(mean - 1), figures.std) > UNIT and branch(model, factor) is None:
            yield Deviation(
                subject=factor,
                message=f"scales the output of frozen {use.wiring.sources[0]} by {mean:.3g} on average, std "
                f"{figures.std:.3g}, at the start",
                help="start the factors at one, for example nn.init.ones_",
                measured={"mean": mean, "std": figures.std},
                expected={"mean": 1.0, "std": 0.0},
                harms=True,
            )


LORA = Recipe(
    name="LoRA",
    asks="one factor random and the other zero, so that the adapted layer starts as the frozen one",
    reference="Hu et al., LoRA, 2021, section 4.1",
    deviations=_lora,
    adapter=True,
)
ADAPTER = Recipe(
    name="adapter",
    asks="a bottleneck adapter starts near the identity",
    reference="Houlsby et al., Parameter-Efficient Transfer Learning for NLP, 2019, sections 2.1 and 3.6",
    deviations=_bottleneck,
    adapter=True,
)
VERA = Recipe(
    name="VeRA",
    asks="of the vectors that scale fixed random matrices beside a frozen layer, the last is zero",
    reference="Kopiczko, Blankevoort & Asano, VeRA: Vector-based Random Matrix Adaptation, 2024, section 3.2",
    deviations=_vectors,
    adapter=True,
)
IA3 = Recipe(
    name="rescaling adapter",
    asks="factors on the activations of a frozen model start at one",
    reference="Liu et al., Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context "
    "Learning, 2022, section 3.3",
    deviations=_rescaling,
    adapter=True,
)
