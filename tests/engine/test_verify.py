"""Remedies: the code is right for the tensor, it is run on the model, and what it proves is what is said."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from initlint.analysis.remedies import clear, expression, fill, redraw
from initlint.engine.examine import examine
from initlint.engine.verify import mark_verified
from initlint.evidence.model import Tensor
from initlint.evidence.use import Use
from initlint.finding import Finding, Suggestion
from initlint.registry import load


def weight(name: str, shape: tuple[int, ...], fan_in: int, activation: str = "none") -> Tensor:
    use = Use("matrix", "aten.mm", "", fan_in=fan_in, activation=activation)
    return Tensor(name, "parameter", shape, "float32", use=use)


def code(suggestion: Suggestion | None) -> str:
    assert suggestion is not None
    return suggestion.code


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("weight", "model.weight"),
        ("blocks.0.fc1.weight", "model.blocks[0].fc1.weight"),
        ("0.weight", "model[0].weight"),
        ("heads.my-head.weight", "model.get_parameter('heads.my-head.weight')"),
        ('a"b', "model.get_parameter('a\"b')"),
    ],
)
def test_expression(name: str, said: str) -> None:
    assert expression(name) == said


def test_redraw_fits_fan_and_activation() -> None:
    assert code(redraw(weight("w", (8, 64), 64, "relu"))) == (
        'nn.init.kaiming_normal_(model.w, nonlinearity="relu")'
    )
    assert code(redraw(weight("w", (8, 64), 64))) == 'nn.init.kaiming_normal_(model.w, nonlinearity="linear")'
    # stored as (inputs, outputs): nn.init would read the wrong fan, so the std is spelled out
    assert code(redraw(weight("w", (64, 8), 64))) == f"nn.init.normal_(model.w, std={1 / math.sqrt(64):.3g})"


def test_no_code_for_what_is_unknown_or_derived() -> None:
    assert redraw(replace(weight("w", (8, 64), 64), use=None)) is None
    assert redraw(weight("fc.parametrizations.weight.original0", (8, 64), 64)) is None
    assert fill(weight("fc.parametrizations.weight.original0", (8,), 1), 1.0) is None


def test_fill() -> None:
    tensor = weight("norm.weight", (8,), 1)
    assert code(fill(tensor, 1.0)) == "nn.init.ones_(model.norm.weight)"
    assert code(fill(tensor, 0.0)) == "nn.init.zeros_(model.norm.weight)"
    assert code(fill(tensor, -4.595)) == "nn.init.constant_(model.norm.weight, -4.59)"


def test_clear_and_several_draws() -> None:
    assert code(clear(weight("emb.weight", (9, 4), 1), 3)) == "model.emb.weight.data[3] = 0.0"
    both = code(redraw(weight("a", (8, 64), 64), weight("b", (64, 8), 8)))
    assert [line.split("(")[1].split(",")[0] for line in both.splitlines()] == ["model.a", "model.b"]
    assert redraw(weight("a", (8, 64), 64), replace(weight("b", (64, 8), 8), use=None)) is None


def constant() -> nn.Module:
    layers = [nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)]
    for layer in layers:
        nn.init.constant_(layer.weight, 0.1)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.ReLU(), layers[2])


def test_a_remedy_that_works_is_verified() -> None:
    rules = [rule() for rule in load().rules if rule.name == "constant-weight"]
    report = examine("constant", lambda: constant, rules, inputs=lambda: torch.randn(16, 8))
    (finding,) = report.findings
    assert finding.suggestion is not None
    assert finding.suggestion.verified
    assert finding.suggestion.code.splitlines() == [
        "nn.init.normal_(model[0].weight, std=0.563)",
        'nn.init.kaiming_normal_(model[2].weight, nonlinearity="relu")',
        'nn.init.kaiming_normal_(model[4].weight, nonlinearity="linear")',
    ]


def finding(suggestion: str) -> Finding:
    return Finding("IL101", "constant-weight", "error", "0.weight", "", suggestion=Suggestion(suggestion))


def test_the_model_is_left_as_it_was() -> None:
    model = constant()
    before = [parameter.clone() for parameter in model.parameters()]
    seen = []

    def look() -> list[Finding]:
        seen.append(float(model.get_parameter("0.weight").detach().max()))
        return []

    state = torch.random.get_rng_state()
    (result,) = mark_verified([finding("nn.init.ones_(model[0].weight)")], model, look, seed=0)
    assert seen == [1.0]
    assert result.suggestion is not None
    assert result.suggestion.verified
    assert all(map(torch.equal, before, model.parameters()))
    assert torch.equal(state, torch.random.get_rng_state())


def test_what_is_still_found_is_not_verified() -> None:
    doubtful = finding("nn.init.ones_(model[0].weight)")
    (result,) = mark_verified([doubtful], constant(), lambda: [doubtful], seed=0)
    assert result == doubtful


def test_code_that_does_not_run_proves_nothing() -> None:
    broken = finding("nn.init.ones_(model.nowhere)")
    (result,) = mark_verified([broken], constant(), list, seed=0)
    assert result == broken
