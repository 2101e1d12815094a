"""For authors of rules: random inputs by shape, and rules tried on their examples.

@pytest.mark.parametrize(("rule", "example"), examples(my_rules))
def test_example(rule: type[Rule], example: Example) -> None:
    check_example(rule, example)
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch

from initlint import engine, registry
from initlint.finding import SEVERITIES
from initlint.report import TargetReport, fold
from initlint.rule import Example, Rule, subjects

Draw = Callable[[], torch.Tensor]


def normal(*shape: int, seed: int = 0) -> Draw:
    """Makes a float32 tensor of this shape from N(0, 1), the same one at each call."""
    return lambda: torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> Draw:
    """Makes a float32 tensor of this shape from U(0, 1), the same one at each call."""
    return lambda: torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(vocabulary: int, *shape: int, seed: int = 0) -> Draw:
    """Makes an int64 tensor of this shape of indices below `vocabulary`, the same one at each call."""
    return lambda: torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def examples(package: ModuleType) -> list[tuple[type[Rule], Example]]:
    """Every rule of a pack with each of its examples; raises PackError."""
    return [(rule, example) for rule in registry.rules_of(package) for example in rule.examples]


def tried(rule: type[Rule], example: Example) -> TargetReport:
    """What the rule alone, with the example's options, says of the example's model."""
    return engine.examine(
        example.name, lambda: example.build, [rule(**example.options)], inputs=example.inputs
    )


def found(report: TargetReport) -> tuple[str, ...]:
    """The subjects of all findings, folded as reports fold them: "blocks.{0..3}.fc.weight"."""
    return tuple(name for finding in report.findings for name in fold(dict.fromkeys(subjects(finding))))


def check_example(rule: type[Rule], example: Example) -> None:
    """Raise AssertionError unless the rule finds exactly what the example says, as severely, with remedies
    that are proven."""
    report = tried(rule, example)
    assert report.error is None, report.error
    assert report.not_run == (), report.not_run
    assert found(report) == example.finds
    worst = max((f.severity for f in report.findings), key=SEVERITIES.index, default=None)
    assert worst == ((example.severity or rule.severity) if example.finds else None)
    for finding in report.findings:
        assert finding.suggestion is None or finding.suggestion.verified, finding.suggestion
