"""What a finding takes from the subject that a rule hands over."""

from __future__ import annotations

from dataclasses import replace

from initlint import LostWrite, ModuleRecord, Rule, Site, Tensor, Write
from initlint.evidence.build import Provenance

PACKAGE, OWN = Site("lib/model.py", 3, "build", package="lib"), Site("mine.py", 7, "build")


class Said(Rule):
    code, name, severity = "X001", "said", "warning"
    examples = ()


def tensor(name: str, site: Site) -> Tensor:
    write = Write(0, "nn.init.zeros_", "zeros_", "initialiser", "constant", site)
    return Tensor(name, "parameter", (2,), "float32", provenance=Provenance(writes=(write,)))


def test_name_and_line_come_from_the_subject() -> None:
    write = Write(0, "nn.init.zeros_", "zeros_", "initialiser", "constant", OWN)
    subjects: dict[str, Tensor | ModuleRecord | LostWrite] = {
        "fc.weight": tensor("fc.weight", OWN),
        "fc": ModuleRecord(("fc", "alias"), "Linear", "torch.nn.Linear", None, construction=OWN),
        "lost": LostWrite(write, "temporary", "lost"),
    }
    for name, subject in subjects.items():
        finding = Said().finding(subject, "is odd")
        assert (finding.subject, finding.site, finding.severity) == (name, OWN, "warning")
    assert Said().finding("fc", "is odd").site is None
    assert Said().finding(subjects["fc"], "is odd", site=PACKAGE).site == PACKAGE


def test_of_several_tensors_the_first_is_the_subject() -> None:
    tensors = [tensor("a", OWN), tensor("b", PACKAGE), tensor("c", PACKAGE)]
    finding = Said().finding(tensors, "are odd", related=["block"])
    assert (finding.subject, finding.site, finding.related) == ("a", OWN, ("b", "c", "block"))


def test_what_a_package_published_is_a_note_unless_the_configuration_says_otherwise() -> None:
    published, own = [tensor("a", PACKAGE), tensor("b", PACKAGE)], tensor("c", OWN)
    rule = Said()
    assert rule.finding(published, "odd", severity=rule.note_if_published(published)).severity == "note"
    assert rule.finding(own, "odd", severity=rule.note_if_published([*published, own])).severity == "warning"
    rule.overridden = "error"
    assert rule.finding(published, "odd", severity=rule.note_if_published(published)).severity == "error"
    assert not replace(own, provenance=Provenance()).published


def test_a_rule_may_ask_for_it_for_all_its_findings() -> None:
    class Mild(Said):
        published = "note"

    published, own, rule = [tensor("a", PACKAGE), tensor("b", PACKAGE)], tensor("c", OWN), Mild()
    assert rule.finding(published, "odd").severity == "note"
    assert rule.finding([*published, own], "odd").severity == "warning"
    assert rule.finding("a", "odd").severity == "warning"
    assert rule.finding(published, "odd", severity="error").severity == "error"
    assert Said().finding(published, "odd").severity == "warning"
    rule.overridden = "warning"
    assert rule.finding(published, "odd").severity == "warning"
