"""Folds names that differ in indices only: blocks.{0..11}.mlp.fc1.weight."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import product

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_FIELD = re.compile(r"(?<!\{)\{([0-9]+(?:(?:\.\.|,)[0-9]+)*)\}(?!\})")
Product = tuple[tuple[int, ...], ...]


def fold(names: Iterable[str]) -> list[str]:
    """Patterns that together stand for exactly these names, each once, in the order of their first names.

    An index is a whole part of a dotted name. A brace that belongs to a name is doubled.
    """
    families: dict[tuple[str | None, ...], dict[tuple[int, ...], None]] = {}
    for name in names:
        parts = name.split(".")
        indices = tuple(int(part) for part in parts if _INDEX.fullmatch(part))
        family = tuple(None if _INDEX.fullmatch(part) else part for part in parts)
        families.setdefault(family, {})[indices] = None
    return [
        _pattern(family, factors)
        for family, members in families.items()
        for factors in _products(list(members))
    ]


def expand(pattern: str) -> list[str]:
    """The names that a pattern stands for."""
    pieces = _FIELD.split(pattern)
    fixed = [_unescape(piece) for piece in pieces[::2]]
    choices = [list(_members(field)) for field in pieces[1::2]]
    return [
        "".join(part for pair in zip(fixed, (*map(str, combination), ""), strict=True) for part in pair)
        for combination in product(*choices)
    ]


def _products(members: list[tuple[int, ...]]) -> list[Product]:
    """Index tuples as disjoint Cartesian products."""
    if not members[0]:
        return [()]
    rests: dict[int, list[tuple[int, ...]]] = {}
    for head, *rest in members:
        rests.setdefault(head, []).append(tuple(rest))
    heads: dict[frozenset[tuple[int, ...]], list[int]] = {}
    for head, tails in rests.items():
        heads.setdefault(frozenset(tails), []).append(head)
    return [
        (tuple(sorted(group)), *factors) for group in heads.values() for factors in _products(rests[group[0]])
    ]


def _pattern(family: tuple[str | None, ...], factors: Product) -> str:
    fields = iter(factors)
    return ".".join(_range_text(next(fields)) if part is None else _escape(part) for part in family)


def _range_text(indices: tuple[int, ...]) -> str:
    """{0..3,7}; a single index stands as it is."""
    if len(indices) == 1:
        return str(indices[0])
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    spelled = (f"{run[0]}..{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)
    return "{" + ",".join(spelled) + "}"


def _members(field: str) -> Iterator[int]:
    for part in field.split(","):
        first, _, last = part.partition("..")
        yield from range(int(first), int(last or first) + 1)


def _escape(part: str) -> str:
    return part.replace("{", "{{").replace("}", "}}")


def _unescape(text: str) -> str:
    return text.replace("{{", "{").replace("}}", "}")
