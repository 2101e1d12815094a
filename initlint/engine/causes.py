"""One cause, one finding: what follows from a reported cause is shown under it, not beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from initlint.evidence import Evidence
from initlint.finding import SEVERITIES, Finding, Location, Site, Suggestion
from initlint.rule import LEVELS, Level, Relation, Rule, subjects

#: Which levels explain a finding about the run of a model, and where. Memory, numbers and normalisations
#: spoil all that is computed from them, and loss and gradients come from all layers together. Whether a slip
#: in writing, a recipe or a comparison does harm is another question: these explain nothing here.
IN_RUN: Mapping[Level, Mapping[Level, Relation]] = {
    "normalisation": {"memory": "same", "non-finite": "same"},
    "signal": {
        "memory": "upstream",
        "non-finite": "upstream",
        "normalisation": "upstream",
        "value": "same",
        "draw": "same",
        "scale": "same",
    },
    "outcome": {
        "memory": "anywhere",
        "non-finite": "anywhere",
        "normalisation": "anywhere",
        "draw": "anywhere",
        "value": "same",
        "scale": "same",
        "signal": "same",
    },
}


def settle(findings: Sequence[Finding], rules: Iterable[Rule], model: Evidence) -> tuple[Finding, ...]:
    """Attach findings to the finding that explains them, fold equal causes, and order by severity.

    A note never explains anything worse than itself; a warning that explains an error becomes one.
    """
    known = {rule.name: rule for rule in rules}
    positions = _positions(model)
    parents = [_parent(i, findings, known, positions) for i in range(len(findings))]
    consequences: dict[int, list[Finding]] = {}
    for i, finding in enumerate(findings):
        root = _root(i, parents)
        if root != i:
            consequences.setdefault(root, []).append(finding)
    roots = [
        _with_consequences(finding, consequences.get(i, []))
        for i, finding in enumerate(findings)
        if _root(i, parents) == i
    ]
    return tuple(sorted(fold(roots), key=lambda f: (-SEVERITIES.index(f.severity), f.code)))


def relation(cause: Rule | type[Rule], effect: Rule | type[Rule]) -> Relation | None:
    """Where a finding of `cause` explains one of `effect`; None: nowhere.

    An exception of either rule decides; else an earlier level explains a later one on the same tensor or
    module, and one about the run where `IN_RUN` says.
    """
    if cause.name in effect.explained_by:
        return effect.explained_by[cause.name]
    if effect.name in cause.explained_by or cause.level is None or effect.level is None:
        return None
    if effect.level in IN_RUN:
        return IN_RUN[effect.level].get(cause.level)
    return "same" if LEVELS.index(cause.level) < LEVELS.index(effect.level) else None


def fold(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of one rule with one source line (or one name pattern) become one, the others related."""
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        key = (finding.code, finding.severity, finding.site or finding.subject, tuple(finding.expected))
        groups.setdefault(key, []).append(finding)
    return [_merged(group) for group in groups.values()]


def _merged(group: list[Finding]) -> Finding:
    first = group[0]
    if len(group) == 1:
        return first
    names = dict.fromkeys(name for finding in group for name in subjects(finding))
    names.pop(first.subject, None)
    return replace(
        first,
        related=tuple(names),
        locations=_distinct(place for finding in group for place in finding.locations),
        suggestion=_common_suggestion([finding.suggestion for finding in group]),
        consequences=tuple(fold(c for finding in group for c in finding.consequences)),
    )


def _distinct(locations: Iterable[Location]) -> tuple[Location, ...]:
    """The first location of each line."""
    found: dict[Site, Location] = {}
    for place in locations:
        found.setdefault(place.site, place)
    return tuple(found.values())


def _common_suggestion(suggestions: Sequence[Suggestion | None]) -> Suggestion | None:
    """The code of all suggestions; None unless there is one for each."""
    codes = dict.fromkeys(suggestion.code for suggestion in suggestions if suggestion is not None)
    return Suggestion("\n".join(codes)) if None not in suggestions else None


def _with_consequences(finding: Finding, consequences: list[Finding]) -> Finding:
    if not consequences:
        return finding
    worst = max((finding, *consequences), key=lambda f: SEVERITIES.index(f.severity)).severity
    return replace(finding, severity=worst, consequences=tuple(fold(consequences)))


def _parent(
    i: int,
    findings: Sequence[Finding],
    rules: Mapping[str, Rule],
    positions: Mapping[str, int],
) -> int | None:
    finding = findings[i]
    rule = rules.get(finding.rule)  # a pack may name a finding as it likes: one of no known rule stands alone
    candidates = [
        (reach != "same", _position(cause, positions), j)
        for j, cause in enumerate(findings)
        if j != i
        and rule is not None
        and cause.rule in rules
        and (reach := relation(rules[cause.rule], rule)) is not None
        and not (cause.severity == "note" and finding.severity != "note")
        and _related(reach, cause, finding, positions)
    ]
    return min(candidates)[2] if candidates else None


def _related(relation: Relation, cause: Finding, finding: Finding, positions: Mapping[str, int]) -> bool:
    match relation:
        case "same":
            return any(_overlap(a, b) for a in subjects(cause) for b in subjects(finding))
        case "upstream":
            return _position(cause, positions) <= _position(finding, positions)
        case "anywhere":
            return True


def _overlap(a: str, b: str) -> bool:
    """One names the other, or a module that holds it."""
    return a == b or a.startswith(b + ".") or b.startswith(a + ".") or not a or not b


def _root(i: int, parents: Sequence[int | None]) -> int:
    """Follow the parents upwards; in a circle the earliest finding is the root."""
    seen = [i]
    while (parent := parents[seen[-1]]) is not None:
        if parent in seen:
            return min(seen[seen.index(parent) :])
        seen.append(parent)
    return seen[-1]


def _positions(model: Evidence) -> dict[str, int]:
    """Order of execution of every tensor and module that took part in the probe."""
    order = {signal.node: i for i, signal in enumerate(model.signals)}
    positions: dict[str, int] = {}
    for tensor in model.tensors:
        if tensor.use is not None and tensor.use.node in order:
            for name in (tensor.name, *tensor.aliases):
                positions[name] = order[tensor.use.node]
    for i, signal in enumerate(model.signals):
        path = signal.module
        while path:
            positions.setdefault(path, i)
            path = path.rpartition(".")[0]
    return positions


def _position(finding: Finding, positions: Mapping[str, int]) -> int:
    return min((positions[name] for name in subjects(finding) if name in positions), default=0)
