"""Residual projections that are scaled down with depth, as in GPT-2."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from initlint import theory
from initlint.analysis import families
from initlint.analysis.recipes.recipe import Deviation, Recipe
from initlint.finding import Location

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Tensor, Weight
    from initlint.finding import Site

#: A measured std is taken for a prescribed one within this, besides sampling error.
CLOSE = 1.05
FEWEST = 3  # blocks, below which depth scaling changes little


@dataclass(frozen=True, slots=True)
class Projections:
    """The same matrix in every block."""

    members: tuple[Weight, ...]
    stds: tuple[float, ...]
    ends: bool

    @property
    def std(self) -> float:
        """Of all members together."""
        return math.sqrt(sum(s * s for s in self.stds) / len(self.stds))

    @property
    def fans(self) -> tuple[float, float, float]:
        """Fan-in, fan-out and their mean."""
        use = self.members[0].use
        fan_in, fan_out = use.fan_in or 1, use.fan_out or 1
        return fan_in, fan_out, (fan_in + fan_out) / 2

    @property
    def distributions(self) -> frozenset[str]:
        """Of the schemes that fit the members, truncated ones counted as normal."""
        found = {t.scheme.distribution for t in self.members if t.scheme is not None}
        return frozenset("normal" if kind == "truncated" else kind for kind in found)

    @property
    def elements(self) -> int:
        """Of all members together."""
        return sum(t.elements for t in self.members)


def _rows(model: Evidence) -> dict[str, list[Projections]]:
    """Rows by the path of the list of blocks that they run through."""
    blocks: dict[str, list[Projections]] = {}
    for row in families.rows(model.weights, "index"):
        members = row.members
        if len(members) < FEWEST or len({t.shape for t in members}) > 1:
            continue
        stds = tuple(t.statistics.std for t in members)
        ends = {t.use.ends_residual for t in members}
        if all(t.use.role == "matrix" for t in members) and len(ends) == 1 and min(stds) > 0:
            blocks.setdefault(row.pattern.partition("{}")[0], []).append(
                Projections(members, stds, ends.pop())
            )
    return blocks


def _alike(measured: float, expected: float, elements: int) -> bool:
    return not theory.departs(measured, expected, elements, ratio=CLOSE)


def _scaled(row: Projections, common: Projections) -> str | None:
    """How a row's std follows from the common one and the number of blocks, if its fans do not explain it.

    Scaling by depth leaves the distribution what it is.
    """
    blocks, base = len(row.members), common.std
    if _alike(row.std, base, row.elements) or not row.distributions & common.distributions:
        return None
    for own, other in zip(row.fans, common.fans, strict=True):
        if _alike(row.std, base * math.sqrt(other / own), row.elements):
            return None
    for terms in (2, 1, 3):
        if _alike(row.std, base / math.sqrt(terms * blocks), row.elements):
            return f"std/√({terms}·{blocks})" if terms > 1 else f"std/√{blocks}"
    growing = (
        _alike(std, base / math.sqrt(2 * (k + 1)), member.elements)
        for k, (std, member) in enumerate(zip(row.stds, row.members, strict=True))
    )
    return "std/√(2·(layer + 1))" if all(growing) else None


def _common(rows: list[Projections]) -> Projections | None:
    """A row with the std that most rows share."""
    groups = [[r for r in rows if _alike(r.std, row.std, r.elements)] for row in rows]
    common = max(groups, key=len, default=[])
    return common[0] if len(common) >= 2 else None


def _deviations(model: Evidence) -> Iterator[Deviation]:
    for rows in _rows(model).values():
        common = _common(rows)
        if common is None:
            continue
        base = common.std
        scaled = [(row, rule) for row in rows if (rule := _scaled(row, common)) is not None]
        missed = [r for r in rows if r.ends and _alike(r.std, base, r.elements)]
        astray = [(row, rule) for row, rule in scaled if not row.ends]
        if astray and missed:
            row, rule = astray[0]
            yield _deviation(model, row, missed, rule, base)
        elif missed and scaled:
            yield _partial(model, missed, scaled[0])


def _deviation(
    model: Evidence, row: Projections, missed: list[Projections], rule: str, base: float
) -> Deviation:
    first, last = row.members[0], missed[0].members[0]
    names = (*(t.name for t in row.members[1:]), *(t.name for r in missed for t in r.members))
    return Deviation(
        subject=first,
        message=f"has std {row.std:.3g} = {rule}, but does not end a residual branch; "
        f"{last.name} does and has the unscaled std {base:.3g}",
        help=f"apply the depth-scaled std to {last.family} instead",
        measured={"std": row.std, "std of the residual end": missed[0].std},
        expected={"std": base, "std of the residual end": row.std},
        harms=True,
        related=names,
        site=_test(model, row),
        locations=_lines((*row.members[:1], last)),
    )


def _partial(model: Evidence, missed: list[Projections], scaled: tuple[Projections, str]) -> Deviation:
    row, rule = scaled
    subject = missed[0].members[0]
    return Deviation(
        subject=subject,
        message=f"ends a residual branch with the unscaled std {missed[0].std:.3g}; "
        f"{row.members[0].name}, which ends another, has {row.std:.3g} = {rule}",
        help="scale every matrix that ends a residual branch",
        measured={"std": missed[0].std},
        expected={"std": row.std},
        harms=True,
        related=tuple(t.name for r in missed for t in r.members)[1:],
        site=_test(model, row),
        locations=_lines((subject, row.members[0])),
    )


def _test(model: Evidence, row: Projections) -> Site | None:
    """The name test that chose the scaled matrices."""
    names = {t.name for t in row.members}
    return next((t.site for t in model.member_tests if names & set(t.matched)), None)


def _lines(tensors: tuple[Tensor, ...]) -> tuple[Location, ...]:
    return tuple(Location(t.site, f"writes {t.name}") for t in tensors if t.site is not None)


GPT2 = Recipe(
    name="depth scaling",
    asks="matrices that end a residual branch are scaled by 1/√N, N residual branches; the others are not",
    reference="Radford et al., Language Models are Unsupervised Multitask Learners, 2019, section 2.3",
    deviations=_deviations,
)
