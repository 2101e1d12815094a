"""Parameters that play one part at several places of a model: layers of a stack, directions, branches.

Siblings have one role, as far as the graph tells, and one shape, unless they stand in blocks of a stack.
What differs is a number in the name (`blocks.3.fc1.weight`), the layer or direction of a recurrent module
(`weight_hh_l1_reverse`), a direction word (`rnn_bwd`), or the whole local name of three and more modules
that stand side by side (`to_q`, `to_k`, `to_v`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from initlint import theory
from initlint.evidence import Evidence, Tensor, Write
from initlint.finding import Site

Kind = Literal["index", "block", "layer", "direction", "named"]

_NUMBERINGS: dict[Kind, re.Pattern[str]] = {
    "index": re.compile(r"(?:(?<=\.)|^)\d+(?=\.|$)"),
    "layer": re.compile(r"_l\d+(?:_reverse)?$"),
    "direction": re.compile(r"(?:(?<=[._])|^)(?:forward|backward|fwd|bwd|fw|bw|left|right)(?=[._]|$)"),
}

FAR = 10.0
"""Factor between standard deviations that no schedule over a few layers reaches."""


@dataclass(frozen=True, slots=True)
class Siblings:
    """Parameters of one part, in the order of registration; `pattern` is what their names share."""

    kind: Kind
    pattern: str
    members: tuple[Tensor, ...]


def siblings(model: Evidence) -> Iterator[Siblings]:
    """All groups of two and more; a parameter may belong to several."""
    groups: dict[tuple[Kind, str, object], list[Tensor]] = {}
    for parameter in model.parameters:
        for kind, pattern in _patterns(parameter):
            groups.setdefault((kind, pattern, _part(parameter, kind)), []).append(parameter)
    for (kind, pattern, _), members in groups.items():
        if len(members) >= (3 if kind == "named" else 2):
            yield Siblings(kind, pattern, tuple(members))


def lines(parameter: Tensor) -> frozenset[Site]:
    """The lines that wrote its values, other than the constructors of torch.nn."""
    return frozenset(write.site for write in parameter.provenance.writes if not write.default)


# ---------------------------------------------------------------- who differs


@dataclass(frozen=True, slots=True)
class Oddity:
    """A parameter whose values differ from its siblings' because other lines wrote them.

    `missed`: every line that wrote the odd one wrote the typical ones too, and `write` came on top of that.
    Otherwise `write` is what gave the odd one its values.
    """

    odd: Tensor
    typical: tuple[Tensor, ...]
    write: Write
    missed: bool
    kind: Kind


def oddities(model: Evidence, *, ratio: float, shift: float) -> Iterator[Oddity]:
    """Parameters that were missed by a line that wrote their siblings, and single ones of a far scale.

    Matrices differ from `ratio` times their standard deviation on, beyond sampling error; vectors from
    `shift` on. One sibling at the end of a row, or in front of it, that was written on top is a choice.
    """
    for group in siblings(model):
        known = [t for t in group.members if _known(t)]
        written: dict[frozenset[Site], list[Tensor]] = {}
        for member in known:
            written.setdefault(lines(member), []).append(member)
        for few, missed in written.items():
            more = [(len(w), key, w) for key, w in written.items() if few < key and not _chosen(group, w)]
            if more:
                _, key, typical = max(more, key=lambda entry: entry[0])
                write = next(w for w in reversed(typical[0].provenance.writes) if w.site in key - few)
                for odd in missed:
                    if _left_on_purpose(group, odd) or not _differs(odd, typical, ratio, shift):
                        continue
                    yield Oddity(odd, tuple(typical), write, missed=True, kind=group.kind)
        yield from _far(group, known)


def _known(parameter: Tensor) -> bool:
    figures = parameter.statistics
    sound = figures is not None and figures.count > 0 and not figures.nans and not figures.infs
    return (
        sound
        and not any(w.pretrained for w in parameter.provenance.writes)
        and (parameter.provenance.unwritten == 0)
    )


def _chosen(group: Siblings, written: list[Tensor]) -> bool:
    """A single sibling that was written on top of what all got, where that is usual."""
    if len(written) > 1 or group.kind in ("layer", "direction"):
        return False
    if group.kind in ("named", "block") or written[0] is not group.members[0] or len(group.members) == 2:
        return True
    last = written[0].provenance.last_write
    return not _in_block(group.pattern) or last is None or last.kind != "random"


def _left_on_purpose(group: Siblings, odd: Tensor) -> bool:
    """Without a graph nobody knows whether the last of a row is the model's head."""
    single = group.kind == "index" and not _in_block(group.pattern)
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


def _far(group: Siblings, known: list[Tensor]) -> Iterator[Oddity]:
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


# ---------------------------------------------------------------- who is whose sibling


def _patterns(parameter: Tensor) -> Iterator[tuple[Kind, str]]:
    name = parameter.name
    for kind, expression in _NUMBERINGS.items():
        for match in expression.finditer(name):
            pattern = f"{name[: match.start()]}{{}}{name[match.end() :]}"
            yield kind, pattern
            if kind == "index" and _in_block(pattern):
                yield "block", pattern
    container, _, module = parameter.owner.rpartition(".")
    if module and not module.isdigit():
        yield "named", f"{container}.{{}}.{parameter.local_name}".lstrip(".")


def _part(parameter: Tensor, kind: Kind) -> tuple[object, ...]:
    use = parameter.use
    place = (use.role, use.reaches_output, use.ends_residual) if use is not None else ()
    depth = use.depth if use is not None and kind == "named" else None
    owner = parameter.owner_class if kind == "named" else None
    return parameter.shape if kind != "block" else len(parameter.shape), owner, place, depth


def _in_block(pattern: str) -> bool:
    """What is numbered is a block of several modules, not a single layer."""
    return pattern.partition("{}")[2].count(".") > 1
