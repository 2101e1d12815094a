"""Random parameters that are not trained, and which of them are so on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import TYPE_CHECKING

from initlint.analysis.families import numberless
from initlint.analysis.recipes.recipe import outputs, zero
from initlint.analysis.signal_path import is_used

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Tensor, UsedTensor, Write

_FLOATING = ("float", "bfloat", "complex")


def frozen_draws(model: Evidence) -> Iterator[tuple[Tensor, bool]]:
    """Frozen parameters that hold drawn values, each with whether somebody may well have meant it.

    What a class of the user's makes frozen may be meant; a library freezes what it expects to load.
    Left out: copies of another parameter (a momentum encoder, a teacher), what was loaded, what a
    library froze when it made it, and a model to which trainable parts were added that leave its
    function as it is at the start, as long as none of its weights were loaded: they are to come. No such
    model has a frozen layer half of whose kin is trained.
    """
    found = [t for t in model.parameters if _drawn(t) and _takes_part(model, t)]
    if not found or any(_adapted(model, tensor) for tensor in found):
        return
    writes = (w for t in model.parameters if not t.requires_grad for w in t.provenance.writes)
    loaded = any(write.restores for write in writes)
    if not loaded and any(_neutral(model, tensor) for tensor in model.parameters):
        found = [tensor for tensor in found if _has_trained_kin(model, tensor)]
    for tensor in found:
        line = tensor.provenance.frozen
        born = line is None and tensor.owner_package != "torch"
        yield tensor, born or (line is not None and line.package is not None)


def frozen_zeros(model: Evidence) -> Iterator[Tensor]:
    """Weights of zeros only that somebody's own line froze; no copies, nothing loaded or adapted."""
    for weight in model.weights:
        line = weight.provenance.frozen
        if (
            zero(weight.statistics)
            and not weight.requires_grad
            and line is not None
            and line.package is None
            and weight.provenance.copied_from is None
            and not weight.provenance.loaded
            and not _adapted(model, weight)
        ):
            yield weight


def last_draw(tensor: Tensor) -> Write | None:
    """The write that the values go back to: the last draw, or what replaced all values since."""
    writes = reversed(tensor.provenance.writes)
    return next((write for write in writes if write.replaces or write.kind == "random"), None)


def _drawn(tensor: Tensor) -> bool:
    last = last_draw(tensor)
    return (
        not tensor.requires_grad
        and tensor.elements > 1
        and tensor.dtype.startswith(_FLOATING)
        and last is not None
        and last.kind == "random"
        and not last.restores
        and tensor.provenance.copied_from is None
    )


def _has_trained_kin(model: Evidence, tensor: Tensor) -> bool:
    """Half or more of the parameters whose names differ in numbers only are trained."""
    pattern = numberless(tensor.name)
    kin = [t.requires_grad for t in model.parameters if numberless(t.name) == pattern]
    return len(kin) > 1 and 2 * sum(kin) >= len(kin)


#: What a near-identity adapter makes of a unit input: N(0, 0.01²) and 64 features (Houlsby et al., 2019).
_SLIGHT = 0.1


def _neutral(model: Evidence, tensor: Tensor) -> bool:
    """A trainable part that changes nothing at the start.

    That is a zero layer or gate inside the model, or a factor of one on what frozen weights give.
    """
    if not tensor.requires_grad or not is_used(tensor) or tensor.use.reaches_output:
        return False
    use, figures = tensor.use, tensor.statistics
    if use.role == "lookup" or use.fan_in:
        slight = use.ends_residual and figures.rms * sqrt(use.fan_in or 1) < _SLIGHT
        return figures.maximum == figures.minimum == 0 or slight
    if use.role not in ("scalar", "gain") or tensor.owner_package == "torch" or not figures.constant:
        return False
    sources = [model.by_name[name] for name in use.wiring.sources]
    return figures.mean == 0 or (
        figures.mean == 1 and bool(sources) and not any(t.requires_grad for t in sources)
    )


def _takes_part(model: Evidence, tensor: Tensor) -> bool:
    """It takes part, and no class made it frozen for a purpose of its own."""
    if tensor.updated or ("graph" in model.available and tensor.use is None):
        return False
    if tensor.provenance.frozen is not None or tensor.owner_package == "torch":
        return True
    return tensor.owner_package is None and not _waves(model, tensor)


def _waves(model: Evidence, tensor: Tensor) -> bool:
    """Its products go into sines or cosines: random Fourier features."""
    return tensor.use is not None and tensor.use.activation in ("sin", "cos")


def _adapted(model: Evidence, tensor: Tensor) -> bool:
    """Trainable factors of lower rank update the frozen matrix, or what it gives."""
    if not is_used(tensor) or tensor.use.fan_in is None or tensor.use.fan_out is None:
        return False
    trained = [t for t in model.used_parameters if t.requires_grad]
    merged = [t for t in trained if t.use.node == tensor.use.node]
    return len([t for t in merged if len(t.shape) > 1]) > 1 or any(
        _updates(tensor, down, up)
        for up in trained
        if len(up.use.wiring.sources) == 1
        if is_used(down := model.by_name.get(up.use.wiring.sources[0]))
    )


def _updates(frozen: UsedTensor, down: UsedTensor, up: UsedTensor) -> bool:
    """`up` after `down` leads from what the base takes to what it gives, through fewer features."""
    base, first, second = frozen.use, down.use, up.use
    return (
        second.fan_in is not None
        and down.requires_grad
        and first.wiring.sources == base.wiring.sources
        and (first.fan_in, outputs(up)) == (base.fan_in, outputs(frozen))
        and second.fan_in < min(base.fan_in or 0, outputs(frozen))
    )
