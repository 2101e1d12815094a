"""Evidence is a rule's whole input: pickled and judged where no file can be read, it says the same."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from initlint import registry
from initlint.engine.examine import examine
from initlint.engine.judge import Verdict
from initlint.evidence import Evidence
from initlint.finding import Finding
from initlint.rule import Example, Need, Rule

#: Judges every case in a process that, once the rules are imported, may open no file but to import modules.
ELSEWHERE = """
import pickle, pkgutil, sys

import initlint.analysis
from initlint import registry
from initlint.engine.judge import judge

for module in pkgutil.walk_packages(initlint.analysis.__path__, "initlint.analysis."):
    __import__(module.name)
initlint.analysis.recipes.known()  # of packs as well, as the rules are
rules = {rule.name: rule for rule in registry.load().rules}
cases, answers = pickle.load(sys.stdin.buffer), []


def importing(frame):
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def refuse(event, arguments):
    touches = event in ("open", "os.listdir", "os.scandir", "subprocess.Popen")
    if touches and not importing(sys._getframe(1)):
        raise RuntimeError(f"a rule looked outside the evidence: {event} {arguments[0]}")


sys.addaudithook(refuse)
for name, options, evidence, missing in cases:
    verdict = judge([rules[name](**options)], pickle.loads(evidence), missing)
    assert verdict.error is None, verdict.error
    answers.append(verdict.findings)
sys.stdout.buffer.write(pickle.dumps(answers))
"""


class Judged:
    """Stands in for the engine's judge: keeps what it was given, as bytes, and what it found."""

    def __init__(self) -> None:
        self.judge = importlib.import_module("initlint.engine.judge").judge
        self.evidence = b""
        self.missing: Mapping[Need, str] = {}
        self.findings: tuple[Finding, ...] = ()

    def __call__(self, rules: Sequence[Rule], evidence: Evidence, missing: Mapping[Need, str]) -> Verdict:
        self.evidence, self.missing = pickle.dumps(evidence), dict(missing)
        verdict: Verdict = self.judge(rules, evidence, missing)
        self.findings = verdict.findings
        return verdict


def every_example() -> Iterator[tuple[type[Rule], Example]]:
    for rule in registry.load().rules:
        yield from ((rule, example) for example in rule.examples)


def lint(rule: type[Rule], example: Example) -> None:
    examine(example.name, lambda: example.build, [rule(**example.options)], inputs=example.inputs)


def elsewhere(cases: object, folder: Path) -> list[tuple[Finding, ...]]:
    """The findings of another process, working in another folder."""
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input=pickle.dumps(cases), cwd=folder, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    found: list[tuple[Finding, ...]] = pickle.loads(done.stdout)
    return found


def test_judged_elsewhere_it_gives_the_same_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Judged()
    monkeypatch.setattr(importlib.import_module("initlint.engine.examine"), "judge", judged)
    cases, labels, expected = [], [], []
    for rule, example in every_example():
        lint(rule, example)
        cases.append((rule.name, example.options, judged.evidence, judged.missing))
        labels.append(f"{rule.code} {example.name}")
        expected.append(repr(judged.findings))
    assert {
        label[:5] for label, findings in zip(labels, expected, strict=True) if "Finding(" in findings
    } == {label[:5] for label in labels}
    found = map(repr, elsewhere(cases, tmp_path))
    assert [label for label, a, b in zip(labels, expected, found, strict=True) if a != b] == []


def test_a_rule_that_reads_a_file_is_caught(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("")
    code = ELSEWHERE.replace(
        "answers.append(", "import linecache; linecache.getlines('model.py'); answers.append("
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps([("constant-weight", {}, pickle.dumps(Evidence()), {})]),
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 1
    assert b"looked outside the evidence: open" in done.stderr
