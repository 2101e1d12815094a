"""IL106 dtype-underflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Statistics, Tensor, Write


class DtypeUnderflow(Rule):
    """Values too small for the dtype of the tensor: they became zero.

    float16 has nothing between 0 and 6e-8, and full precision from 6.1e-5 on only. A layer scale or an
    epsilon below that is zero: a branch that was to start small starts dead, a quotient divides by zero.

    Keep the tensor in float32 or bfloat16, or choose a value that the dtype can hold.

    References:
        IEEE 754-2019, table 3.5: binary16 has 2⁻¹⁴ as smallest normal and 2⁻²⁴ as smallest positive number.
    """

    code = "IL106"
    name = "dtype-underflow"
    severity = "error"
    level = "write"
    needs = frozenset({"statistics", "provenance"})

    #: Share of the values that became zero; of a normal draw with the smallest normal number for its
    #: standard deviation it is below 0.001.
    share: float = 0.01

    def check(self, model: Evidence) -> Iterator[Finding]:
        for tensor in model.tensors:
            figures, flush = tensor.statistics, tensor.provenance.flush
            if figures is None or not figures.zeros or "float" not in tensor.dtype:
                continue
            lost = int(flush.arguments["flushed"]) if flush is not None else _lost(tensor, figures)
            if lost < max(self.share * figures.count, 1):
                continue
            asked = f", values up to {flush.arguments['largest']:.3g} were given" if flush is not None else ""
            yield self.finding(
                tensor,
                f"{lost} of {figures.count} values became zero in {tensor.dtype}{asked}",
                measured={"zeros": lost},
                expected={"zeros": 0},
                help="keep the tensor in float32 or bfloat16, or start from larger values",
                locations=_story(tensor),
            )


def _story(tensor: Tensor) -> list[Location]:
    """The lines that chose the values, then the one that converted them."""
    origin = tensor.provenance
    chosen = [w for w in (*origin.writes, *origin.origins) if not w.default]
    story = [Location(write.site, f"{write.operation} here") for write in chosen]
    if origin.flush is not None:
        story.append(Location(origin.flush.site, f"became zero in {origin.flush.operation}"))
    return list(dict.fromkeys(story))


def _lost(tensor: Tensor, figures: Statistics) -> int:
    """Zeros where other values were asked for.

    A constant is lost when its last write names another number; of what was drawn, zeros are lost if the
    rest lies at the lower end of the dtype as well, or is nothing.
    """
    last = tensor.provenance.last_write
    if last is None or last.default or last.function == "sparse_":
        return 0
    numbers = _numbers(last)
    if last.kind == "random":
        drawn = not numbers or any(numbers)
        all_small = figures.zeros + figures.subnormals >= figures.count / 2 and figures.subnormals > 0
        return figures.zeros if drawn and (figures.zeros == figures.count or all_small) else 0
    given = bool(numbers) and all(numbers)
    if "other" in last.arguments:  # a factor: what it multiplied must have been something
        multiplied = (*tensor.provenance.writes[-2:-1], *tensor.provenance.origins)
        given = given and any(map(_is_something, multiplied))
    return figures.zeros if figures.zeros == figures.count and given else 0


def _numbers(write: Write) -> list[float]:
    """The sizes that the write's arguments name; a standard deviation says all, whatever the bounds."""
    asked = ("std",) if "std" in write.arguments else ASKED
    return [float(v) for k, v in write.arguments.items() if k in asked and isinstance(v, (int, float))]


def _is_something(write: Write) -> bool:
    """The write made values other than zero."""
    numbers = _numbers(write)
    return write.kind == "random" or write.function in ONES or (bool(numbers) and all(numbers))


ONES = frozenset({"ones_", "ones", "ones_like", "new_ones"})
#: Arguments that say how large the values are to be.
ASKED = frozenset({"val", "value", "fill_value", "std", "a", "b", "from", "to", "gain", "data", "other"})
