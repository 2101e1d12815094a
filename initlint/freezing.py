"""Random parameters that are not trained, and which of them are so on purpose."""

from __future__ import annotations

from collections.abc import Iterator

from initlint.evidence import Evidence, Tensor

_FLOATING = ("float", "bfloat", "complex")


def frozen_draws(model: Evidence) -> Iterator[tuple[Tensor, bool]]:
    """Frozen parameters that hold drawn values, each with whether somebody may well have meant it.

    Left out: copies of another parameter (a momentum encoder, a teacher), what was loaded, what a
    library froze when it made it, and the base of low-rank adapters.
    """
    found = [t for t in model.parameters if _drawn(t) and _told(model, t)]
    if not found or any(_adapted(model, tensor) for tensor in found):
        return
    for tensor in found:
        born = tensor.provenance.frozen is None and tensor.owner_package != "torch"
        yield tensor, born


def _drawn(tensor: Tensor) -> bool:
    last = tensor.provenance.last_write
    return (
        not tensor.requires_grad
        and tensor.elements > 1
        and tensor.dtype.startswith(_FLOATING)
        and last is not None
        and last.kind == "random"
        and not last.pretrained
        and last.operation != "load_state_dict"
        and tensor.provenance.copied_from is None
    )


def _told(model: Evidence, tensor: Tensor) -> bool:
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
    """Two trainable factors of lower rank stand beside the frozen matrix."""
    if len(tensor.shape) < 2:
        return False
    around = {tensor.owner, tensor.owner.rpartition(".")[0]}
    outputs, inputs = tensor.shape[:2]
    beside = [t for t in model.parameters if t.requires_grad and len(t.shape) >= 2 and _near(t, around)]
    return any(
        down is not up and _ranks(down, inputs) & _ranks(up, outputs) & set(range(min(outputs, inputs)))
        for down in beside
        for up in beside
    )


def _near(tensor: Tensor, around: set[str]) -> bool:
    return any(tensor.name.startswith(f"{path}." if path else "") for path in around)


def _ranks(tensor: Tensor, size: int) -> set[int]:
    """What a matrix with an axis of this size may have as its other axis."""
    first, second = tensor.shape[:2]
    return {other for one, other in ((first, second), (second, first)) if one == size}
