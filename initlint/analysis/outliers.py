"""Members of a family that start unlike the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from initlint import theory
from initlint.analysis.families import Row, RowKind, lines, siblings, unit

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Tensor, Use, Weight, Write
    from initlint.finding import Site


FAR = 10.0
"""Factor between standard deviations that no schedule over a few layers reaches."""
MANIFOLD = 2.5
"""Factor between layers of one scheme that the gains of their activations, 3/4 to 5/3, do not explain."""
STRANGE = 30.0
"""Factor between scales of one model's weights that no ratio of their fans or gains explains."""
LARGEST_GAIN = 1.5 * max(theory.PYTORCH_GAINS.values())
"""std·√fan_in that no scheme for any activation comes near."""


# ---------------------------------------------------------------- who differs
@dataclass(frozen=True, slots=True)
class Oddity:
    """A parameter whose values differ from its siblings' because other lines wrote them.

    `missed`: every line that wrote the odd one wrote the typical ones too, and `write` came on top of that.
    Otherwise `write` is what gave the odd one its values. `sure`: the values tell that this is no choice.
    """

    odd: Tensor
    typical: tuple[Tensor, ...]
    write: Write
    missed: bool
    kind: RowKind | None
    sure: bool = True


def oddities(model: Evidence, *, ratio: float, shift: float) -> Iterator[Oddity]:
    """Parameters that were missed by a line that wrote their siblings, and single ones of a far scale.

    Matrices differ from `ratio` times their standard deviation on, beyond sampling error; vectors from
    `shift` on. One sibling at the end of a row, or in front of it, that was written on top is a choice.
    """
    for group in siblings(model):
        known = [t for t in group.members if _is_known(t)]
        written: dict[frozenset[Site], list[Tensor]] = {}
        for member in known:
            written.setdefault(lines(member), []).append(member)
        yield from _on_top(group, written, ratio)
        special = _one_of_two(model, group, known)
        if special is not None:
            yield special
        if group.kind == "stage" or special is not None:
            continue
        for few, missed in written.items():
            more = [
                (len(w), key, w)
                for key, w in written.items()
                if few < key and not _is_choice(group, w) and not _is_exception(few, missed, w)
            ]
            if more:
                _, key, typical = max(more, key=lambda entry: entry[0])
                write = next(w for w in reversed(typical[0].provenance.writes) if w.site in key - few)
                for odd in missed:
                    if _left_on_purpose(group, odd) or not _differs(odd, typical, ratio, shift):
                        continue
                    yield Oddity(odd, tuple(typical), write, missed=True, kind=group.kind)
        yield from _far(group, known)
    yield from _strangers(model)


def _is_known(parameter: Tensor) -> bool:
    figures = parameter.statistics
    sound = figures is not None and figures.count > 0 and not figures.nans and not figures.infs
    return sound and not parameter.provenance.loaded and (parameter.provenance.unwritten == 0)


def _is_choice(group: Row[Tensor], written: list[Tensor]) -> bool:
    """A single sibling that was written on top of what all got, where that is usual."""
    if len(written) > 1 or group.kind in ("layer", "direction"):
        return False
    if group.kind in ("named", "block") or written[0] is not group.members[0] or len(group.members) == 2:
        return True
    last = written[0].provenance.last_write
    return not group.in_blocks or last is None or last.kind != "random"


def _is_exception(few: frozenset[Site], missed: list[Tensor], written: list[Tensor]) -> bool:
    """An initialiser reached several, so that what a single one got besides is the exception."""
    return bool(few) and len(missed) > 1 and len(written) == 1


def _on_top(
    group: Row[Tensor], written: dict[frozenset[Site], list[Tensor]], ratio: float
) -> Iterator[Oddity]:
    """A single one that a line of its own drew anew, after an initialiser had written all.

    The first and the last of a row may well be special: outside of blocks in any way, in blocks by values
    that are smaller, as at the end of a residual branch.
    """
    if group.kind == "named":
        return  # what stands side by side under other names may have other duties
    for few, typical in written.items():
        for key, others in written.items():
            odd = others[0]
            last = odd.provenance.last_write
            if not few < key or not _is_exception(few, typical, others) or len(odd.shape) < 2 or last is None:
                continue
            edge = odd is group.members[0] or odd is group.members[-1]
            if last.kind not in ("random", "transform") or (edge and not _repeated(group)):
                continue
            if _departs(odd, typical, ratio, larger=edge):
                yield Oddity(odd, tuple(typical), last, missed=False, kind=group.kind)


def _one_of_two(model: Evidence, group: Row[Tensor], known: list[Tensor]) -> Oddity | None:
    """A matrix of a recurrent pair that a line of its own wrote, after an initialiser had drawn both.

    Had the line been meant for the other one too, it would have written something else of the model besides.
    """
    if group.kind not in ("layer", "direction") or len(known) != 2 or len(known[0].shape) < 2:
        return None
    for odd, other in (known, known[::-1]):
        last = odd.provenance.last_write
        alone = [t.name for t in model.parameters if last is not None and last.site in lines(t)] == [odd.name]
        if alone and last is not None and lines(other) and lines(other) < lines(odd):
            kept = last.kind in ("random", "transform", "constant")
            return Oddity(odd, (other,), last, missed=False, kind=group.kind) if kept else None
    return None


def _strangers(model: Evidence) -> Iterator[Oddity]:
    """A weight without siblings, drawn anew by a line of its own at a scale unlike any other of the model."""
    written: dict[frozenset[Site], list[Weight]] = {}
    for weight in model.weights:
        if _is_known(weight):
            written.setdefault(lines(weight), []).append(weight)
    for few, typical in written.items():
        for key, others in written.items():
            odd, last = others[0], others[0].provenance.last_write
            if not few < key or len(others) > 1 or len(typical) < 3 or last is None:
                continue
            if not few and not any(write.default for write in odd.provenance.writes):
                continue  # no layer that was drawn like the others before: learned queries, slots, tokens
            if odd.use.activation in ("sin", "cos"):
                continue  # frequencies of Fourier features
            drawn = last.kind == "random"
            if not drawn and last.kind != "transform":
                continue
            if odd.gain > LARGEST_GAIN and _departs(odd, typical, MANIFOLD, larger=True):
                yield Oddity(odd, tuple(typical), last, missed=False, kind=None, sure=drawn)
            elif not _may_be_small(odd.use) and _departs(odd, typical, STRANGE, larger=False):
                yield Oddity(odd, tuple(typical), last, missed=False, kind=None, sure=False)


def _may_be_small(use: Use) -> bool:
    """Heads and the ends of residual branches start small, or at zero, by choice."""
    return use.reaches_output or use.ends_residual


def _repeated(group: Row[Tensor]) -> bool:
    """Its members are parts of larger units that repeat, not layers of one row."""
    return group.kind != "index" or group.in_blocks


def _departs(odd: Tensor, typical: Sequence[Tensor], ratio: float, *, larger: bool) -> bool:
    """Its scale is another one in every measure in which its siblings agree."""
    figures = [t.statistics for t in (odd, *typical) if t.statistics is not None]
    if len(figures) <= len(typical) or any(f.constant for f in figures):
        return False
    size = min(f.count for f in figures) // 2
    common = []
    for fan in _FANS:
        own, *gains = (
            f.std * sqrt(fan(*(theory.fans(t.shape) or (1, 1))))
            for f, t in zip(figures, (odd, *typical), strict=True)
        )
        if not theory.exceeds(max(gains), min(gains), size):
            common.append((own, gains))
    return bool(common) and all(
        theory.exceeds(own, max(gains), size, ratio=ratio)
        or (not larger and theory.falls_short(own, min(gains), size, ratio=ratio))
        for own, gains in common
    )


def _left_on_purpose(group: Row[Tensor], odd: Tensor) -> bool:
    """Without a graph nobody knows whether the last of a row is the model's head."""
    single = group.kind == "index" and not group.in_blocks
    return single and odd.use is None and odd is group.members[-1]


def _differs(odd: Tensor, typical: list[Tensor], ratio: float, shift: float) -> bool:
    """The odd one's values lie outside the range of its siblings'."""
    mine = odd.statistics
    others = [t.statistics for t in typical if t.statistics is not None]
    if mine is None or not others:
        return False
    if len(odd.shape) < 2:
        return all(max(abs(mine.rms - s.rms), abs(mine.mean - s.mean)) >= shift for s in others)
    if mine.constant or others[0].constant:
        return all(mine.constant != s.constant or mine.mean != s.mean for s in others)
    if all(_structured(t) != _structured(odd) for t in typical):
        return True
    size = min(mine.count, *(s.count for s in others)) // 2  # both sides of the comparison are samples
    shapes = {t.shape for t in (odd, *typical)}
    for fan in _FANS if len(shapes) > 1 else _FANS[:1]:
        own, *gains = (
            t.statistics.std * sqrt(fan(*(theory.fans(t.shape) or (1, 1))))
            for t in (odd, *typical)
            if t.statistics is not None
        )
        if not (
            theory.falls_short(own, min(gains), size, ratio=ratio)
            or theory.exceeds(own, max(gains), size, ratio=ratio)
        ):
            return False
    return True


_FANS: tuple[Callable[[int, int], int], ...] = (
    lambda fan_in, fan_out: 1,
    lambda fan_in, fan_out: fan_in,
    lambda fan_in, fan_out: fan_out,
    lambda fan_in, fan_out: fan_in + fan_out,
)
"""What a scheme may divide the variance by: matrices of other sizes differ only if no choice explains it."""


def _structured(parameter: Tensor) -> bool:
    """Orthogonal, or an identity: what makes it so is not in its standard deviation."""
    return parameter.scheme is not None and parameter.scheme.distribution in ("orthogonal", "identity")


def _far(group: Row[Tensor], known: list[Tensor]) -> Iterator[Oddity]:
    """A drawn matrix inside a row, whose scale no schedule over the row explains."""
    drawn = [t for t in known if len(t.shape) > 1 and t.statistics is not None and t.statistics.std > 0]
    if group.kind != "index" or len(drawn) < 3:
        return
    far = max(FAR, 2.0 * len(group.members))
    for odd in drawn[:-1]:
        typical = [t for t in drawn if t is not odd]
        last = odd.provenance.last_write
        if last is not None and not last.default and _differs(odd, typical, far, far):
            yield Oddity(odd, tuple(typical), last, missed=False, kind=group.kind)


# ---------------------------------------------------------------- who is alone at zero
def lone_zeros(model: Evidence) -> Iterator[tuple[Weight, tuple[Weight, ...]]]:
    """Single weights of zeros inside a model, each with the same weight of the other units, which are drawn.

    The last of a row of layers may be a head.
    """
    groups: dict[tuple[bool, str, tuple[object, ...]], list[Weight]] = {}
    for weight in model.weights:
        if weight.requires_grad and _is_known(weight) and len(weight.shape) > 1:
            pattern, repeated = unit(weight)
            part = weight.use.role, _may_be_small(weight.use), len(weight.shape) if repeated else weight.shape
            groups.setdefault((repeated, pattern, part), []).append(weight)
    for (repeated, *_), members in groups.items():
        empty = [w for w in members if not w.statistics.absmax]
        drawn = [w for w in members if w.statistics.std > 0]
        if len(empty) != 1 or not drawn or len(drawn) != len(members) - 1:
            continue
        odd = empty[0]
        if not _may_be_small(odd.use) and (repeated or odd is not members[-1]):
            yield odd, tuple(drawn)
