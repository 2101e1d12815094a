"""The listing of all parameters: shape, scheme and scale, families folded where their rows agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import sqrt

from tabulate import tabulate

from initlint.evidence import Tensor
from initlint.report.folding import fold
from initlint.report.text import View, escape, place, sentence

HEADERS = ("name", "shape", "fan-in", "scheme", "std", "expected", "max·√n", "gradient", "line")
ALIGNMENT = ("left", "left", "right", "left", "right", "right", "right", "right", "left")


def listing(tensors: Iterable[Tensor], view: View) -> list[str]:
    """One line for each family of parameters and buffers.

    `expected` is the std that the recognised scheme prescribes, `max·√n` the largest weight times
    √fan-in (the default range ends at 1), `gradient` the root mean square of the gradient.
    """
    rows: dict[tuple[object, ...], list[Tensor]] = {}
    for tensor in tensors:
        rows.setdefault(_row_key(tensor), []).append(tensor)
    table = [row for family in rows.values() for row in _rows(family)]
    text = tabulate(table, headers=HEADERS, tablefmt="plain", disable_numparse=True, colalign=ALIGNMENT)
    head, *lines = text.split("\n")
    return [view.paint(head, "dim"), *lines]


def _row_key(tensor: Tensor) -> tuple[object, ...]:
    """What members of one row have in common; without a scheme also the scale, to two digits."""
    scale = None if tensor.scheme or tensor.statistics is None else f"{tensor.statistics.std:.1e}"
    return (tensor.family, tensor.shape, _fan_in(tensor), _scheme(tensor), scale, _line(tensor))


def _rows(family: Sequence[Tensor]) -> list[list[str]]:
    first = family[0]
    shared = [
        "×".join(map(str, first.shape)) or "scalar",
        str(_fan_in(first) or ""),
        _scheme(first),
        _span(family, lambda t: t.statistics.std if t.statistics else None),
        _span(family, lambda t: t.scheme.std if t.scheme else None),
        _span(family, _reach),
        _span(family, lambda t: t.gradient.scale.rms if t.gradient and t.gradient.scale else None),
        _line(first),
    ]
    return [[escape(pattern), *shared] for pattern in fold(t.name for t in family)]


def _span(family: Iterable[Tensor], value: Callable[[Tensor], float | None]) -> str:
    """Smallest and largest value over the family, one number where they agree."""
    values = [v for t in family if (v := value(t)) is not None]
    return "–".join(dict.fromkeys(f"{v:.3g}" for v in (min(values), max(values)))) if values else ""


def _fan_in(tensor: Tensor) -> int | None:
    return tensor.use.fan_in if tensor.use is not None else None


def _reach(tensor: Tensor) -> float | None:
    fan_in = _fan_in(tensor)
    return tensor.statistics.absmax * sqrt(fan_in) if tensor.statistics and fan_in else None


def _scheme(tensor: Tensor) -> str:
    if tensor.unread is not None:
        return sentence(tensor.unread)
    return sentence(tensor.scheme.text or tensor.scheme.name) if tensor.scheme is not None else ""


def _line(tensor: Tensor) -> str:
    return place(tensor.site) if tensor.site is not None else ""
