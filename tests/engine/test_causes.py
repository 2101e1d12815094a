"""One cause, one finding: attaching, folding and ordering."""

from __future__ import annotations

from collections.abc import Iterable

from initlint.engine.causes import settle
from initlint.evidence.model import Evidence, Tensor
from initlint.evidence.signals import Scale, Signal
from initlint.evidence.use import Use
from initlint.finding import Finding, Severity, Site
from initlint.rule import Relation, Rule

FINE = Scale(rms=1.0, mean=0.0, std=1.0, absmax=3.0, zeros=0.0)


def rule(name: str, **explained_by: Relation) -> Rule:
    relations = {cause.replace("_", "-"): relation for cause, relation in explained_by.items()}
    made: type[Rule] = type(name, (Rule,), {"name": name, "code": name, "explained_by": relations})
    return made()


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
