"""One cause, one finding: attaching, folding and ordering."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

import pytest

from initlint import registry
from initlint.engine.causes import relation, settle
from initlint.evidence.model import Evidence, Tensor
from initlint.evidence.signals import Scale, Signal
from initlint.evidence.use import Use
from initlint.finding import Finding, Severity, Site
from initlint.rule import LEVELS, Level, Relation, Rule

FINE = Scale(rms=1.0, mean=0.0, std=1.0, absmax=3.0, zeros=0.0)


def rule(name: str, **explained_by: Relation) -> Rule:
    relations = {cause.replace("_", "-"): relation for cause, relation in explained_by.items()}
    made: Rule = type(name, (Rule,), {"name": name, "code": name, "explained_by": relations})()
    return made


def ranked(name: str, level: Level | None) -> Rule:
    """A rule of a pack that says no more than its level."""
    made: Rule = type(name, (Rule,), {"name": name, "code": name, "level": level})()
    return made


def finding(rule_name: str, subject: str, severity: Severity = "warning", line: int | None = None) -> Finding:
    site = Site("model.py", line) if line else None
    return Finding(rule_name, rule_name, severity, subject, f"{rule_name} at {subject}", site=site)


def chain(*names: str) -> Evidence:
    """A model that uses the weights of these modules one after the other."""
    return Evidence(
        tensors=tuple(
            Tensor(f"{n}.weight", "parameter", (4, 4), "float32", use=Use("matrix", "aten.mm", n, node=n))
            for n in names
        ),
        signals=tuple(
            Signal(n, n, "aten.mm", "product", "weight", (2, 4), i + 1, None, FINE)
            for i, n in enumerate(names)
        ),
    )


def names(findings: Iterable[Finding]) -> list[str]:
    return [f"{f.rule}:{f.subject}" for f in findings]


def test_a_consequence_downstream_is_shown_under_its_cause() -> None:
    rules = [rule("cause"), rule("effect", cause="upstream")]
    found = settle([finding("effect", "b.weight"), finding("cause", "a.weight")], rules, chain("a", "b"))
    assert names(found) == ["cause:a.weight"]
    assert names(found[0].consequences) == ["effect:b.weight"]


def test_what_happens_before_the_cause_is_not_explained_by_it() -> None:
    rules = [rule("cause"), rule("effect", cause="upstream")]
    found = settle([finding("effect", "a.weight"), finding("cause", "b.weight")], rules, chain("a", "b"))
    assert sorted(names(found)) == ["cause:b.weight", "effect:a.weight"]


def test_same_means_the_tensor_or_the_module_that_holds_it() -> None:
    rules = [rule("cause"), rule("effect", cause="same")]
    found = settle(
        [finding("cause", "a.weight"), finding("effect", "a"), finding("effect", "ab.weight")],
        rules,
        chain("a", "ab"),
    )
    assert names(found) == ["cause:a.weight", "effect:ab.weight"]


def test_a_note_never_hides_a_warning() -> None:
    rules = [rule("cause"), rule("effect", cause="anywhere")]
    found = settle(
        [finding("cause", "a.weight", "note"), finding("effect", "b.weight")], rules, chain("a", "b")
    )
    assert names(found) == ["effect:b.weight", "cause:a.weight"]


def test_a_cause_is_as_severe_as_its_worst_consequence() -> None:
    rules = [rule("cause"), rule("effect", cause="anywhere")]
    found = settle(
        [finding("cause", "a.weight"), finding("effect", "b.weight", "error")], rules, chain("a", "b")
    )
    assert [(f.rule, f.severity) for f in found] == [("cause", "error")]


def test_causes_are_followed_to_the_root_even_in_a_circle() -> None:
    rules = [rule("one", three="anywhere"), rule("two", one="anywhere"), rule("three", two="anywhere")]
    found = settle([finding(n, f"{n}.weight") for n in ("one", "two", "three")], rules, chain("one", "two"))
    assert names(found) == ["one:one.weight"]
    assert names(found[0].consequences) == ["two:two.weight", "three:three.weight"]


def test_one_line_of_source_is_one_finding() -> None:
    found = settle(
        [finding("cause", f"blocks.{i}.weight", line=7) for i in range(3)]
        + [finding("cause", "head.weight", line=9)],
        [rule("cause")],
        chain(),
    )
    assert [(f.subject, f.related) for f in found] == [
        ("blocks.0.weight", ("blocks.1.weight", "blocks.2.weight")),
        ("head.weight", ()),
    ]


def test_errors_come_first() -> None:
    severities: tuple[Severity, ...] = ("note", "error", "warning")
    found = settle([finding("cause", s, s) for s in severities], [rule("cause")], chain())
    assert [f.severity for f in found] == ["error", "warning", "note"]


# ---------------------------------------------------------------- the order of levels

RULES = registry.load().rules
RULE = {rule.name: rule for rule in RULES}
LEVELLED = [rule for rule in RULES if rule.level is not None]
#: The worse of the two findings comes first; of two alike the earlier rule.
CIRCLES = {
    frozenset({"constant-weight", "tiny-variance"}),
    frozenset({"inconsistent-init", "recipe-deviation"}),
}


def test_no_rule_explains_itself() -> None:
    assert not [rule.name for rule in RULES if relation(rule, rule) is not None]


def test_of_two_rules_one_explains_the_other() -> None:
    both = {
        frozenset({a.name, b.name})
        for a, b in permutations(RULES, 2)
        if relation(a, b) is not None and relation(b, a) is not None
    }
    assert both - CIRCLES == {frozenset({"dead-units", "vanishing-signal"})}  # whichever is upstream


def test_an_exception_names_rules_and_says_what_the_order_does_not() -> None:
    assert {cause for rule in RULES for cause in rule.explained_by} <= RULE.keys()
    for rule in RULES:
        for cause, where in rule.explained_by.items():
            if {rule.name, cause} in CIRCLES:
                continue  # says again what the order says, for both ways to hold
            bare = type("bare", (rule,), {"explained_by": {}})
            back = type("back", (RULE[cause],), {"explained_by": {}})
            assert relation(back, bare) != where, (rule.name, cause)


@pytest.mark.parametrize("name", ["uninitialized-memory", "non-finite-parameter"])
def test_memory_and_numbers_explain_all_that_is_computed_from_them(name: str) -> None:
    cause = RULE[name]
    assert {relation(cause, rule) for rule in RULES if rule.level == "signal"} <= {"upstream", "anywhere"}
    assert {relation(cause, rule) for rule in RULES if rule.level == "outcome"} == {"anywhere"}
    assert all(relation(cause, rule) for rule in LEVELLED if LEVELS.index(rule.level or "outcome") > 2)


def test_what_shows_in_a_run_explains_no_value() -> None:
    allowed = {("dead-units", "large-bias"), ("saturated-activation", "large-bias")}
    run = [rule for rule in RULES if rule.level in ("normalisation", "signal", "outcome")]
    values = [rule for rule in LEVELLED if rule not in run]
    assert {(a.name, b.name) for a in run for b in values if relation(a, b)} == allowed


def test_a_rule_of_a_pack_takes_part_through_its_level() -> None:
    rules = [ranked("draw", "draw"), ranked("scale", "scale"), RULE["uninitialized-memory"]()]
    found = settle(
        [finding("scale", "a.weight"), finding("draw", "a.weight"), finding("scale", "b.weight")],
        rules,
        chain(),
    )
    assert names(found) == ["draw:a.weight", "scale:b.weight"]
    found = settle([finding("draw", "a.weight"), finding("uninitialized-memory", "a.weight")], rules, chain())
    assert names(found) == ["uninitialized-memory:a.weight"]


def test_a_rule_without_a_level_stands_alone() -> None:
    alone = ranked("alone", None)
    assert not [rule.name for rule in RULES if relation(alone, rule) or relation(rule, alone)]


def test_a_finding_of_no_known_rule_stands_alone() -> None:
    found = settle(
        [finding("draw", "a.weight"), finding("nobody", "a.weight")], [ranked("draw", "draw")], chain()
    )
    assert sorted(names(found)) == ["draw:a.weight", "nobody:a.weight"]


def test_levels_of_a_run_reach_as_far_as_their_cause() -> None:
    rules = [ranked(level, level) for level in LEVELS]
    model = chain("a", "b")

    def explained(cause: Level, effect: Level, at: str) -> bool:
        return len(settle([finding(cause, "a.weight"), finding(effect, at)], rules, model)) == 1

    assert explained("memory", "signal", "b.weight")
    assert not explained("scale", "signal", "b.weight")
    assert explained("scale", "signal", "a.weight")
    assert explained("draw", "outcome", "b.weight")
    assert not explained("write", "outcome", "a.weight")
    assert not explained("memory", "value", "b.weight")
