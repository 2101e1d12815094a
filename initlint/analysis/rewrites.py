"""Values that a build wrote more than once: what was lost, and what was applied again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from initlint.analysis.families import beside, is_numbered

if TYPE_CHECKING:
    from initlint.evidence import Evidence, LostWrite, Tensor, Write
    from initlint.finding import Site

_STRUCTURED = frozenset({"orthogonal_", "eye_", "dirac_", "sparse_"})
#: Operations that give another result each time they are applied.
_ACCUMULATING = frozenset(
    function
    for name in (
        *("mul", "div", "true_divide", "add", "sub", "neg", "pow", "addcmul", "addcdiv"),
        *("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "square"),
        *("erfinv", "logit", "sigmoid", "tanh", "t", "transpose"),
    )
    for function in (name, f"{name}_")
)
_SCALING = frozenset({"mul_", "div_", "true_divide_"})
#: A draw of this std is a constant: biases of std 1e-6 are meant to start at zero.
NARROW = 1e-4

#: How values that were drawn or computed elsewhere come into a parameter.
_HANDED = frozenset({"copy_", "clone", "randn", "from_numpy", "tensor"})
_RANGES = frozenset({"arange", "linspace", "logspace", "tensor"})

Line = tuple[str, int]


def _line(site: Site) -> Line:
    return site.file, site.line


@dataclass(frozen=True, slots=True)
class Reach:
    """What each line wrote, itself or through what it calls: names of parameters and their families."""

    names: Mapping[Line, tuple[str, ...]]
    families: Mapping[Line, frozenset[str]]

    def layers(self, site: Site) -> int:
        """Layers, repeated ones counted once, that were written through a line."""
        return len({family.rpartition(".")[0] for family in self.families.get(_line(site), ())})

    def through(self, site: Site) -> int:
        """Families of parameters that were written through a line."""
        return len(self.families.get(_line(site), ()))

    def breadth(self, write: Write) -> int:
        """Families that the most particular line on the way to a write stands for."""
        return min(self.through(site) for site in (write.site, *write.callers))


def reach(model: Evidence) -> Reach:
    """Which lines wrote what, over the whole build."""
    names: dict[Line, list[str]] = {}
    families: dict[Line, set[str]] = {}
    for tensor in model.tensors:
        for write in tensor.provenance.explicit:
            for line in {_line(site) for site in (write.site, *write.callers)}:
                names.setdefault(line, []).append(tensor.name)
                families.setdefault(line, set()).add(tensor.family)
    return Reach(
        {line: tuple(found) for line, found in names.items()},
        {line: frozenset(found) for line, found in families.items()},
    )


def divergence(first: Write, second: Write) -> tuple[Site, Site] | None:
    """Where the ways to two writes part: two lines of one function; None if they share no function."""
    a, b = ((*write.callers[::-1], write.site) for write in (first, second))
    for mine, other in zip(a, b, strict=False):
        if mine != other:
            same = (mine.file, mine.qualified) == (other.file, other.qualified)
            return (mine, other) if same else None
    return None


# ---------------------------------------------------------------- overwritten


class Overwriting(NamedTuple):
    """A particular value that a later write of many tensors replaced."""

    tensor: Tensor
    special: Write
    blanket: Write
    written: tuple[str, ...]  # all that the blanket line wrote
    sure: bool  # not one draw for another, of which both may be sound


def overwritings(model: Evidence) -> Iterator[Overwriting]:
    """Values of another kind that were written on purpose and then replaced by a line that writes many.

    What the same line writes once more afterwards is not lost.
    """
    lines = reach(model)
    for tensor in model.tensors:
        writes = (*_handed_values(tensor, model), *tensor.provenance.explicit)
        for i, special in enumerate(writes):
            later = next((w for w in writes[i + 1 :] if w.replaces and w.elements >= tensor.elements), None)
            if later is None or any(w.site == special.site for w in writes[writes.index(later) :]):
                continue
            if (
                not special.own
                and not later.restores
                and not _remade(special, later, tensor)
                and not _restored(special, later, tensor)
                and _lost(special, later, tensor, lines, model)
            ):
                doubtful = special.kind == later.kind == "random" and not special.restores
                unsure = doubtful and not _handed(special, tensor)
                if unsure and _within(special, later):
                    continue
                yield Overwriting(tensor, special, later, lines.names[_line(later.site)], not unsure)
                break


def _handed_values(tensor: Tensor, model: Evidence) -> tuple[Write, ...]:
    """The values that a layer of torch was handed instead of drawing its own."""
    owner, writes = model.modules_by_path.get(tensor.owner), tensor.provenance.writes
    if owner is None or owner.package != "torch" or not writes or len(tensor.shape) < 2:
        return ()
    if owner.qualified_class.startswith("torch.nn.modules.container"):
        return ()  # a list or dict of parameters draws nothing
    first = writes[0]
    handed = first.via == "allocation" or first.function == "clone"
    return (first,) if handed and first.kind != "constant" else ()


def _handed(write: Write, tensor: Tensor) -> bool:
    """The values came from elsewhere; so did the first ones of a lookup table that it did not draw itself."""
    first = not tensor.provenance.writes[:1] or tensor.provenance.writes[0] is write
    table = tensor.owner_class in ("Embedding", "EmbeddingBag") and first and not write.default
    return write.function in _HANDED or (table and write.via == "allocation")


def _remade(special: Write, later: Write, tensor: Tensor) -> bool:
    """The later values are computed by the line that wrote the earlier ones, and copied in."""
    origins = tensor.provenance.origins if later is tensor.provenance.last_write else ()
    return any(_line(origin.site) == _line(special.site) for origin in origins)


def _restored(special: Write, later: Write, tensor: Tensor) -> bool:
    """A write that follows gives the same part its particular value again.

    What became of a padding row is seen in its values; it is not told here.
    """
    if tensor.padding is not None and special.elements < tensor.elements and written_constant(special) == 0:
        return True
    return any(
        write.order > later.order
        and write.elements == special.elements
        and write.kind == special.kind == "constant"
        and written_constant(write) == written_constant(special)
        for write in tensor.provenance.writes
    )


def _within(special: Write, later: Write) -> bool:
    """The function that wrote last had called for the first write itself, as an override does."""
    own = (later.site.file, later.site.qualified)
    return any((caller.file, caller.qualified) == own for caller in special.callers)


def _lost(special: Write, later: Write, tensor: Tensor, lines: Reach, model: Evidence) -> bool:
    """The later write is less particular about the tensor, and leaves another kind of value."""
    if special.restores:
        return _spans(lines.names[_line(later.site)], model)
    if special.site == later.site or lines.breadth(later) <= max(1, lines.breadth(special)):
        return False
    if special.kind == later.kind == "random" and _handed(special, tensor):
        return True
    scaled = tensor.use is None or not tensor.use.normalised_after
    return _differ(special, later, vector=len(tensor.shape) < 2, scaled=scaled)


def _spans(names: tuple[str, ...], model: Evidence) -> bool:
    """A line wrote into several parts of the model, or into all that was loaded."""
    matrices = [tensor for tensor in model.parameters if len(tensor.shape) > 1]
    loaded = {t.name for t in matrices if any(write.restores for write in t.provenance.writes)}
    return len({name.partition(".")[0] for name in names}) > 1 or (bool(loaded) and loaded <= set(names))


def _differ(first: Write, second: Write, *, vector: bool, scaled: bool) -> bool:
    """The two writes leave values of different kinds. Of two draws only the scale tells, if it matters."""
    if first.function in _STRUCTURED and first.function != second.function:
        return True
    match first.kind, second.kind:
        case "constant", "constant":
            before, after = written_constant(first), written_constant(second)
            return before is not None and after is not None and before != after
        case "constant", "random":
            before = written_constant(first)
            return before != second.arguments.get("mean") if before else not vector
        case "random", "constant":
            width = written_std(first)
            return width is None or width > NARROW
        case "random", "random":
            one, other = written_std(first), written_std(second)
            return scaled and one is not None and other is not None and not 1 / 5 < one / other < 5
        case "transform", "transform":
            return False  # a table that is computed anew is as particular as the one that it replaces
    return "unknown" not in (first.kind, second.kind)


def written_constant(write: Write) -> float | None:
    """The constant that a write left, if its arguments tell."""
    match write.function:
        case "zeros_" | "zero_":
            return 0.0
        case "ones_":
            return 1.0
    value = write.arguments.get("val", write.arguments.get("value"))
    return float(value) if isinstance(value, (int, float)) else None


def written_std(write: Write) -> float | None:
    """The standard deviation that a random write was asked for, if its arguments tell."""
    std = write.arguments.get("std")
    if isinstance(std, (int, float)) and std > 0:
        return float(std)
    low = write.arguments.get("a", write.arguments.get("from"))
    high = write.arguments.get("b", write.arguments.get("to"))
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and high > low:
        return float(high - low) / 12**0.5
    return None


# ---------------------------------------------------------------- written again


class DoubleInit(NamedTuple):
    """A parameter that was initialised twice beside one that was not initialised at all."""

    tensor: Tensor
    first: Site
    second: Site
    writes: tuple[Write, Write]
    sibling: Tensor


def double_inits(model: Evidence) -> Iterator[DoubleInit]:
    """Two lines of one function that write one and the same parameter, where a sibling got neither."""
    lines = reach(model)
    for tensor in model.parameters:
        whole = [w for w in tensor.provenance.explicit if w.replaces and w.elements >= tensor.elements]
        for one, two in pairwise(whole):
            place = divergence(one, two)
            if place is None or place[0].line == place[1].line or one.function != two.function:
                continue
            if any(lines.layers(site) != 1 for site in place):
                continue
            sibling = next(iter(_unwritten(model, tensor)), None)
            if sibling is not None:
                yield DoubleInit(tensor, *place, (one, two), sibling)


def _unwritten(model: Evidence, tensor: Tensor) -> tuple[Tensor, ...]:
    """Parameters of the same name in like modules beside this one's, which no line wrote explicitly."""
    return tuple(other for other in beside(model, tensor) if not other.provenance.explicit)


class StuckIndex(NamedTuple):
    """A member of a list that a loop wrote at each turn, in place of all the others."""

    tensor: Tensor
    write: Write
    missed: tuple[Tensor, ...]


def stuck_indices(model: Evidence) -> Iterator[StuckIndex]:
    """One line that wrote one member as often as the list has members, and none of the others."""
    for tensor in model.parameters:
        if not is_numbered(tensor.owner):
            continue
        turns: dict[tuple[Line, str, tuple[Site, ...]], list[Write]] = {}
        for write in tensor.provenance.explicit:
            if write.elements >= tensor.elements:
                turns.setdefault((_line(write.site), write.function, write.callers), []).append(write)
        longest = max(turns.values(), key=len, default=[])
        missed = _unwritten(model, tensor) if len(longest) > 1 else ()
        if missed and len(longest) == len(missed) + 1:
            yield StuckIndex(tensor, longest[-1], missed)


class Repetition(NamedTuple):
    """An operation on the values themselves that ran again on its own result."""

    tensor: Tensor
    first: Write
    again: Write
    times: int


def repetitions(model: Evidence) -> Iterator[Repetition]:
    """Operations of one line that were applied more than once without fresh values in between.

    Buffers may well be made from two results of one function, as masks are.
    """
    for tensor in model.parameters:
        applied: dict[tuple[Line, str], list[Write]] = {}
        events = (*tensor.provenance.origins, *_standing(tensor))
        for write in sorted(events, key=lambda event: event.order):
            fresh = write.kind in ("random", "constant") or write.function in _RANGES
            if write.function in _ACCUMULATING or (write.own and write.replaces):
                applied.setdefault((_line(write.site), write.function), []).append(write)
            elif fresh and write.replaces and write.elements >= tensor.elements:
                applied.clear()
        for same in applied.values():
            if len(same) > 1 and _apart(same, tensor):
                yield Repetition(tensor, same[0], same[1], len(same))
                break


def _standing(tensor: Tensor) -> tuple[Write, ...]:
    """Writes since values that were computed elsewhere replaced all that the tensor held."""
    writes = tensor.provenance.writes
    for i in reversed(range(len(writes))):
        copied = writes[i].via == "copy" and not writes[i].own
        if copied and writes[i].elements >= tensor.elements:
            return writes[i:]
    return writes


def _apart(same: list[Write], tensor: Tensor) -> bool:
    """No loop that iterates: they came from different places, or hit one tensor under several names.

    A loop that multiplies by one and the same number at each turn does not iterate towards anything.
    """
    if len({write.callers for write in same}) > 1 or tensor.aliases:
        return True
    factors = [write.arguments.get("other") for write in same]
    scales = same[0].function in _SCALING and isinstance(factors[0], (int, float))
    return scales and len(set(factors)) == 1 and all(write in tensor.provenance.writes for write in same)


def lost_together(lost: Iterable[LostWrite]) -> Iterator[list[LostWrite]]:
    """Writes that one parameter lost for one reason, the last one first."""
    groups: dict[object, list[LostWrite]] = {}
    for entry in lost:
        alone = entry.write if not entry.subject else None
        groups.setdefault((entry.subject, entry.reason, entry.source, entry.end, alone), []).append(entry)
    for group in groups.values():
        yield sorted(group, key=lambda entry: -entry.write.order)
