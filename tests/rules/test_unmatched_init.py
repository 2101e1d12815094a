"""What the options of IL318 decide: how alike two spellings must be."""

from __future__ import annotations

import pytest
from torch import nn

from initlint import registry
from initlint.engine.examine import examine

RULE = registry.load().find("IL318")


class Flagged(nn.Linear):
    """A layer with a flag for its initialiser."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.output_scale = True


def flagged() -> nn.Module:
    def scaled(module: nn.Module) -> None:
        if hasattr(module, "input_scale"):
            nn.init.zeros_(module.weight)  # type: ignore[arg-type]

    return nn.Sequential(Flagged(), Flagged()).apply(scaled)


def named() -> nn.Module:
    model = nn.Sequential()
    for name in ("query", "value"):
        model.add_module(name, nn.Linear(8, 8))
    for name, parameter in model.named_parameters():
        if name.startswith("quarry"):
            nn.init.zeros_(parameter)
    return model


@pytest.mark.parametrize(
    ("build", "option", "least", "found"),
    [
        (flagged, "similar_attribute", 0.85, []),
        (flagged, "similar_attribute", 0.6, ["0"]),
        (named, "similar_name", 0.6, ["query.weight"]),
        (named, "similar_name", 0.8, []),
    ],
)
def test_how_alike_spellings_must_be(build: object, option: str, least: float, found: list[str]) -> None:
    report = examine("model", lambda: build, [RULE(**{option: least})])  # type: ignore[arg-type, return-value]
    assert [finding.subject for finding in report.findings] == found
