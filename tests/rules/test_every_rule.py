"""What holds for every rule of every installed pack: its examples, its prose, and its manners."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from zoo import ZOO, Odd, StandIn

from initlint import registry
from initlint.engine.examine import examine
from initlint.finding import SEVERITIES, Finding
from initlint.report.pages import prose, reasons
from initlint.report.records import TargetReport
from initlint.rule import NEEDS, Example, Rule
from initlint.testing import check_example, tried

RULES = registry.load().rules
EXAMPLES = [
    pytest.param(rule, example, id=f"{rule.code}-{example.name}")
    for rule in RULES
    for example in rule.examples
]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
each_odd = pytest.mark.parametrize("odd", ZOO, ids=lambda odd: odd.name)


def lint(
    build: Callable[[], nn.Module], rules: Sequence[Rule], inputs: Callable[[], object] | None = None
) -> TargetReport:
    return examine(build.__name__, lambda: build, rules, inputs=inputs)


@cache
def of(odd: Odd) -> TargetReport:
    return lint(odd.build, [rule() for rule in RULES], odd.inputs)


def flat(findings: Sequence[Finding]) -> list[Finding]:
    return [f for finding in findings for f in (finding, *flat(finding.consequences))]


# ---------------------------------------------------------------- examples


@pytest.mark.parametrize(("rule", "example"), EXAMPLES)
def test_example(rule: type[Rule], example: Example) -> None:
    check_example(rule, example)


@each_rule
def test_same_seed_same_findings(rule: type[Rule]) -> None:
    example = next(example for example in rule.examples if example.finds)
    assert tried(rule, example).findings == tried(rule, example).findings


@each_rule
def test_findings_say_what_was_measured_and_how_bad_it_is(rule: type[Rule]) -> None:
    example = next(example for example in rule.examples if example.finds)
    for finding in tried(rule, example).findings:
        assert (finding.code, finding.rule) == (rule.code, rule.name)
        assert finding.severity in SEVERITIES
        assert finding.message.strip()
        assert not finding.message.endswith(".")
        assert finding.help.strip()
        assert finding.measured


# ---------------------------------------------------------------- prose


@each_rule
def test_docstring_has_fact_reason_and_remedy(rule: type[Rule]) -> None:
    said = prose(rule)
    assert said.fact.endswith(".")
    assert "\n" not in said.fact
    assert said.why
    assert said.remedy


@each_rule
def test_finds_something_and_has_a_near_miss(rule: type[Rule]) -> None:
    assert any(example.finds for example in rule.examples)
    assert any(not example.finds for example in rule.examples)
    assert len({example.name for example in rule.examples}) == len(rule.examples)


@each_rule
def test_options_have_reasons(rule: type[Rule]) -> None:
    assert all(reasons(rule)[option] for option in rule.options())


@each_rule
def test_needs_are_known(rule: type[Rule]) -> None:
    assert rule.needs <= set(NEEDS)


def test_codes_and_names_are_unique_and_never_reused() -> None:
    removed = registry.load().removed
    for keys in ([rule.code for rule in RULES], [rule.name for rule in RULES]):
        assert len(set(keys)) == len(keys)
        assert not removed.keys() & set(keys)


# ---------------------------------------------------------------- manners


@each_odd
def test_odd_models_are_linted(odd: Odd) -> None:
    report = of(odd)
    assert (report.status == "error") == odd.fails, report.error
    assert report.rules_run + len(report.not_run) == len(RULES)
    assert all(skipped.reason for skipped in report.not_run)


@each_odd
def test_odd_models_are_not_blamed(odd: Odd) -> None:
    known = odd.found & {rule.name for rule in RULES}
    found = [f for f in flat(of(odd).findings) if f.severity != "note"]
    assert {f.rule for f in found if f.rule not in odd.found} == set(), found
    assert known <= {f.rule for f in flat(of(odd).findings)}


@each_odd
def test_models_stay_as_they_were(odd: Odd) -> None:
    model = odd.build()
    before = state(model)
    examine("model", lambda: lambda: model, [rule() for rule in RULES], inputs=odd.inputs, borrowed=True)
    assert state(model) == before


def state(model: nn.Module) -> dict[str, object]:
    """Everything of a model and of the generators that a lint could leave changed."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    modules = dict(model.named_modules())
    return {
        "tensors": [(name, id(t), t.requires_grad, t.grad is None, content(t)) for name, t in tensors],
        "training": [module.training for module in modules.values()],
        "hooks": [
            (name, len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for name, module in modules.items()
        ],
        "attributes": [
            (name, sorted(vars(module)), vars(module).get("calls"), len(vars(module).get("cache", ())))
            for name, module in modules.items()
        ],
        "generators": (
            random.getstate(),
            str(np.random.get_state(legacy=False)),
            content(torch.get_rng_state()),
        ),
        "modes": (
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
        ),
    }


def content(tensor: torch.Tensor) -> object:
    if isinstance(tensor, nn.UninitializedParameter) or tensor.is_meta:
        return None
    tensor = tensor.held if isinstance(tensor, StandIn) else tensor
    if tensor.is_sparse:
        tensor = tensor.detach().coalesce()
        return tensor.indices().tolist(), tensor.values().tolist()
    flat = tensor.detach().contiguous().view(-1).view(torch.uint8) if tensor.numel() else tensor
    return tuple(tensor.shape), str(tensor.dtype), flat.tolist()
