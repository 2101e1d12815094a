"""Settles a suspicion by a few SGD steps: do equal units stay equal, a zero gradient zero?

One gradient cannot tell. Behind a zero gate (LoRA, adaLN-Zero, a zero head) everything has gradient zero
until the gate has moved, and units that are equal at the start may be told apart by what follows them.
What stays equal or zero whatever the values are (a key bias under softmax, a bias before a batch norm) is
no fault of the initialisation, so whatever survives the steps is tried once more with random values.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.evidence import Confirmation, Gradient, Statistics, Use
from initlint.probe.training_steps import Batch, Loss, Trial, TrialError, precisions, reversible_trial
from initlint.runtime import Inputs

STEPS = 3  # a zero head, behind it zero gates, behind them zero layers: the third step reaches the last
MOST_STEPS = 5  # taken while something is still opening
SLOW = 4.0  # seconds of a probe from which on its own precision has to do: in float64 it takes twice as long


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as nothing, relative to the largest gradient, and as alike, relative to the movement."""

    negligible: float
    tolerance: float


LIMITS = {torch.float64: Limits(1e-10, 1e-5), torch.float32: Limits(1e-7, 1e-3)}  # rounding is far below


class OutOfTimeError(Exception):
    """The deadline passed before every suspicion was settled."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A tensor that may never learn.

    `axis` is the axis of units some of which are equal, None when only the gradient is in doubt. `bias` is
    what is added to the outputs. With `peers` the units are whole tensors: this one and its peers.
    """

    name: str
    axis: int | None = None
    peers: tuple[str, ...] = ()
    bias: str | None = None


@dataclass(slots=True, eq=False)
class Watch:
    """What has been seen of one suspect so far; `tensors` are the weight, or all peers, and the bias."""

    suspect: Suspect
    tensors: tuple[tuple[str, int], ...]  # name and axis of units
    groups: tuple[torch.Tensor, ...]  # indices of units that were equal at the start
    movement: list[torch.Tensor]  # of each of `tensors`, a row a unit
    touched: torch.Tensor  # units that ever had a gradient above rounding level
    zero: bool = True
    reached: bool = False  # by a gradient, in any batch

    @property
    def units(self) -> int:
        """Number of units, equal or not."""
        return len(self.touched)

    def rows(
        self, tensors: Mapping[str, torch.Tensor], like: Mapping[str, torch.Tensor]
    ) -> list[torch.Tensor]:
        """The units' part in `tensors`, a row a unit; zeros shaped as in `like` where one is missing."""
        known = {n: tensors.get(n, torch.zeros_like(like[n])) for n, _ in self.tensors}
        return _rows(self.suspect, self.tensors, known)


def suspects(
    statistics: Mapping[str, Statistics], gradients: Mapping[str, Gradient], uses: Mapping[str, Use]
) -> tuple[Suspect, ...]:
    """Tensors with equal units along an axis of outputs or of stacked matrices, or with a zero gradient."""
    found = []
    for name, gradient in gradients.items():
        if gradient.scale is None:
            continue
        known, use = statistics.get(name), uses.get(name)
        axis = _equal_axis(known, use) if known and use else None
        if axis is not None or gradient.scale.absmax == 0:
            found.append(Suspect(name, axis, bias=use.bias if use else None))
    return tuple(found)


def _equal_axis(statistics: Statistics, use: Use) -> int | None:
    """The axis of outputs, or of stacked matrices, with the most slices that copy another."""
    if use.role not in ("matrix", "kernel", "recurrent", "lookup"):
        return None
    copies = {
        a: statistics.duplicates[a] for a in (*use.outputs, *use.stacked) if a < len(statistics.duplicates)
    }
    axis = max(copies, key=copies.__getitem__, default=None)
    return axis if axis is not None and copies[axis] > 0 else None


def confirm(
    model: nn.Module,
    inputs: Inputs,
    suspects: Iterable[Suspect],
    *,
    loss: Loss | None = None,
    seed: int = 0,
    probed: float = 0.0,
    budget: float = float("inf"),
) -> dict[str, Confirmation]:
    """What a few SGD steps make of each suspicion, by name; the steps are undone afterwards.

    In float64 where the model allows it, dropout off, norms in training mode; every step sees fresh inputs
    and, without `loss`, fresh random targets. Tensors that no gradient reaches are left out, and so are all
    when the model does not run. A model whose probe took long (`probed`, in seconds) keeps its precision.

    Raises OutOfTimeError when `budget` seconds did not suffice.
    """
    wanted = tuple(suspects)
    if not wanted:
        return {}
    modes = dict.fromkeys((True, model.training, False))
    deadline = time.monotonic() + budget
    kinds = precisions(model) if probed < SLOW else (None,)
    for training, dtype, vary in product(modes, kinds, (True, False)):
        try:
            with reversible_trial(
                model, inputs, loss=loss, training=training, dtype=dtype, vary=vary, seed=seed
            ) as trial:
                return _settle(trial, wanted, dtype or torch.float32, deadline)
        except TrialError:
            continue  # another precision, mode or batch may do
    return {}


def _settle(
    trial: Trial, wanted: tuple[Suspect, ...], dtype: torch.dtype, deadline: float
) -> dict[str, Confirmation]:
    limits = LIMITS[dtype]
    tensors = {
        n: p for n, p in trial.model.named_parameters() if p.requires_grad and not is_lazy(p) and p.numel()
    }
    watches = [_watch(tensors, s) for s in wanted if tensors.keys() >= {s.name, *s.peers}]
    constant = [p for p in tensors.values() if p.numel() and bool((p == p.reshape(-1)[0]).all())]
    doubtful: list[Watch] = watches
    state: object = None
    for steps in range(1, MOST_STEPS + 1):
        batch = _batch(trial, deadline)
        for watch in watches:
            _observe(watch, tensors, batch, limits)
        trial.step(batch)
        doubtful = [w for w in watches if w.reached and (w.zero or _count_stuck(w, limits))]
        opened = [name for name, size in batch.sizes.items() if size > 0]
        previous, state = state, (opened, [w.suspect for w in doubtful])
        if not doubtful or (steps >= STEPS and state == previous):
            break
    learners = _learners(trial, doubtful, constant, limits, deadline) if doubtful else ()
    return {
        watch.suspect.name: Confirmation(
            steps=steps,
            zero_gradient=watch in learners and watch.zero,
            stuck_units=_count_stuck(watch, limits) if watch in learners else 0,
            units=watch.units,
        )
        for watch in watches
        if watch.reached
    }


def _batch(trial: Trial, deadline: float) -> Batch:
    if time.monotonic() > deadline:
        raise OutOfTimeError
    return trial.batch()


def _watch(tensors: Mapping[str, torch.Tensor], suspect: Suspect) -> Watch:
    bias = _bias(tensors, suspect) if suspect.axis is not None else None
    if suspect.peers:
        members: tuple[tuple[str, int], ...] = tuple((name, -1) for name in (suspect.name, *suspect.peers))
    else:
        members = ((suspect.name, suspect.axis or 0), *([bias] if bias else []))
    rows = _rows(suspect, members, tensors)
    groups: dict[bytes, list[int]] = {}
    if suspect.axis is not None or suspect.peers:
        arrays = [(part.detach() + 0.0).cpu().numpy() for part in rows]  # + 0.0: minus zero equals zero
        for unit in range(len(arrays[0])):
            groups.setdefault(b"".join(array[unit].tobytes() for array in arrays), []).append(unit)
    return Watch(
        suspect,
        members,
        tuple(torch.tensor(group, device="cpu") for group in groups.values() if len(group) > 1),
        [torch.zeros_like(part) for part in rows],
        torch.zeros(len(rows[0]), dtype=torch.bool, device=rows[0].device),
    )


def _rows(
    suspect: Suspect, members: tuple[tuple[str, int], ...], tensors: Mapping[str, torch.Tensor]
) -> list[torch.Tensor]:
    """The units' weights and biases, a row a unit."""
    if suspect.peers:
        return [torch.stack([_matrix(tensors[name], 0).reshape(-1) for name, _ in members])]
    return [_matrix(tensors[name], axis) for name, axis in members]


def _matrix(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    if tensor.dim() == 0:
        tensor = tensor.reshape(1)
    real = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
    return real.movedim(axis, 0).reshape(tensor.shape[axis], -1)


def _bias(tensors: Mapping[str, torch.Tensor], suspect: Suspect) -> tuple[str, int] | None:
    """The bias added to the outputs along the suspect's axis, and the axis of the units in it."""
    if suspect.bias is None or suspect.bias not in tensors:
        return None
    axis, shape, added = suspect.axis or 0, tensors[suspect.name].shape, tensors[suspect.bias].shape
    if added == shape[axis : axis + 1]:
        return suspect.bias, 0
    for summed in range(len(shape)):  # stacked matrices: the bias lacks the axis that is summed over
        if summed != axis and added == shape[:summed] + shape[summed + 1 :]:
            return suspect.bias, axis - (summed < axis)
    return None


def _observe(watch: Watch, tensors: Mapping[str, torch.Tensor], batch: Batch, limits: Limits) -> None:
    weights = [n for n in (watch.suspect.name, *watch.suspect.peers) if n in batch.gradients]
    if not weights:
        return
    watch.reached = True
    watch.zero = watch.zero and not any(batch.sizes[name] for name in weights)
    for moved, part in zip(watch.movement, _movements(watch, tensors, batch, limits), strict=True):
        watch.touched |= part.any(dim=1)
        moved += part


def _movements(
    watch: Watch, tensors: Mapping[str, torch.Tensor], batch: Batch, limits: Limits
) -> list[torch.Tensor]:
    """The units' gradients in units of the largest of the batch, nothing at rounding level."""
    largest = max(batch.sizes.values()) or 1.0
    rows = [part / largest for part in watch.rows(batch.gradients, tensors)]
    return [torch.where(part.abs() > limits.negligible, part, 0) for part in rows]


def _count_stuck(watch: Watch, limits: Limits) -> int:
    """How many units were equal to another at the start and moved alike; unused ones do not count."""
    used = watch.touched | watch.zero
    count = 0
    for group in watch.groups:
        units = group.to(used.device)[used[group]]
        if len(units) > 1:
            count += int(_equal_rows([moved[units] for moved in watch.movement], limits).sum())
    return count


def _equal_rows(parts: list[torch.Tensor], limits: Limits) -> torch.Tensor:
    """Which rows equal another: neighbours in the order of a random projection are compared."""
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(part.shape[1], generator=generator, device="cpu").to(part) for part in parts]
    order = torch.stack([part @ d for part, d in zip(parts, directions, strict=True)]).sum(0).argsort()
    same = torch.ones(len(order) - 1, dtype=torch.bool, device=order.device)
    for part in parts:
        ordered = part[order]
        size = ordered.abs().amax(dim=1)
        allowed = limits.tolerance * torch.maximum(size[1:], size[:-1]) + limits.negligible
        same &= ordered.diff(dim=0).abs().amax(dim=1) <= allowed
    alike = torch.zeros_like(order, dtype=torch.bool)
    alike[order[1:]] |= same
    alike[order[:-1]] |= same
    return alike


# ---------------------------------------------------------------- values or structure


def _learners(
    trial: Trial,
    doubtful: list[Watch],
    constant: Iterable[torch.Tensor],
    limits: Limits,
    deadline: float,
) -> list[Watch]:
    """The suspects that learn as soon as values are random: constants and suspects first, then everything."""
    tensors = dict(trial.model.named_parameters())
    learns: dict[str, bool] = {}
    for redrawn in (
        [*constant, *(tensors[name] for watch in doubtful for name, _ in watch.tensors)],
        [p for p in tensors.values() if p.requires_grad],
    ):
        _redraw(redrawn, trial.generator)
        try:
            batch = _batch(trial, deadline)
        except TrialError:
            continue  # random values do not suit this model: no evidence either way
        for watch in doubtful:
            name = watch.suspect.name
            if name in batch.gradients:
                learns[name] = learns.get(name, False) or _learns(watch, tensors, batch, limits)
    return [watch for watch in doubtful if learns.get(watch.suspect.name, True)]


def _learns(watch: Watch, tensors: Mapping[str, torch.Tensor], batch: Batch, limits: Limits) -> bool:
    if watch.zero:
        return batch.sizes[watch.suspect.name] > limits.negligible * max(batch.sizes.values())
    rows = _movements(watch, tensors, batch, limits)
    return any(not bool(_equal_rows([part[group] for part in rows], limits).all()) for group in watch.groups)


@torch.no_grad()
def _redraw(tensors: Iterable[torch.Tensor], generator: torch.Generator) -> None:
    """Random values of a healthy size: unit variance over the inputs of a matrix, around one for gains."""
    for tensor in tensors:
        if tensor.numel() == 0:
            continue
        if tensor.dim() > 1:
            values = (
                torch.randn(tensor.shape, generator=generator, device="cpu")
                * (len(tensor) / tensor.numel()) ** 0.5
            )
        else:
            values = torch.rand(tensor.shape, generator=generator, device="cpu") + 0.5
        tensor.copy_(values)
