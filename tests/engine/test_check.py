"""initlint.check: the same findings as the command line, in the calling process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import initlint


def healthy() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def unwritten() -> nn.Module:
    model = nn.Linear(4, 2)
    model.weight = nn.Parameter(torch.empty(2, 4))  # here
    return model


def test_healthy() -> None:
    report = initlint.check(healthy, torch.randn(3, 4))
    assert report.ok
    assert report.findings == ()
    (target,) = report.targets
    assert (target.target, target.inputs, target.not_run) == ("healthy", "given", ())
    report.raise_for_findings("note")


def test_a_callable_gives_source_lines() -> None:
    report = initlint.check(unwritten, torch.randn(3, 4), select=["IL301"])
    assert not report.ok
    (finding,) = report.findings
    line = next(
        i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text.endswith("# here")
    )
    assert finding.site is not None
    assert (finding.site.file, finding.site.line) == (__file__, line)
    with pytest.raises(initlint.FindingsError, match="IL301 uninitialized-memory: weight"):
        report.raise_for_findings()


def test_a_model_that_exists_is_judged_without_its_history() -> None:
    model = healthy()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = initlint.check(model, (torch.randn(3, 4),))
    (target,) = report.targets
    assert target.target == "Sequential"
    assert report.findings == ()
    assert any("already built" in rule.reason for rule in target.not_run)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_selection_and_errors() -> None:
    assert initlint.check(unwritten, select=["IL1"]).ok
    assert initlint.check(unwritten, ignore=["IL3", "IL4"], inputs=torch.randn(3, 4)).ok
    with pytest.raises(initlint.ConfigError, match="unknown rule 'IL999'"):
        initlint.check(healthy, select=["IL999"])


def test_a_model_that_cannot_be_built_is_a_failed_report() -> None:
    def narrow() -> nn.Module:
        raise ValueError("too narrow")

    report = initlint.check(narrow)
    assert report.failed
    assert not report.ok
    error = report.targets[0].error
    assert error is not None
    assert (error.stage, error.type, error.file) == ("build", "ValueError", __file__)
    with pytest.raises(initlint.FindingsError, match="narrow: too narrow"):
        report.raise_for_findings()


def test_a_loss() -> None:
    seen = []

    def loss(output: torch.Tensor) -> torch.Tensor:
        seen.append(output.shape)
        return output.square().mean()

    assert initlint.check(healthy, torch.randn(3, 4), loss=loss).ok
    assert torch.Size([3, 2]) in seen


def test_the_generator_goes_on_as_if_nothing_had_happened() -> None:
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    initlint.check(healthy, torch.zeros(3, 4))
    assert torch.equal(torch.randn(4), expected)


def test_json() -> None:
    report = initlint.check(unwritten, torch.randn(3, 4))
    document = json.loads(report.to_json())
    assert document["schema"] == 1
    assert document["targets"][0]["findings"][0]["code"] == "IL301"


def test_a_default_device_that_the_code_sets() -> None:
    class Elsewhere(nn.Sequential):
        def forward(self, x: torch.Tensor) -> Any:
            torch.set_default_device("meta")
            for layer in self:
                x = layer(x)
            return x

    def build() -> nn.Module:
        equal = nn.Linear(8, 8)
        nn.init.constant_(equal.weight, 0.1)
        return Elsewhere(nn.Linear(4, 8), nn.ReLU(), equal, nn.ReLU(), nn.Linear(8, 2))

    def left() -> nn.Module:
        model = nn.Sequential(*build().children())
        torch.set_default_device("meta")
        return model

    try:
        for factory in (build, left):
            report = initlint.check(factory)
            assert report.targets[0].error is None
            assert [finding.subject for finding in report.findings] == ["2.weight"]
    finally:
        torch.set_default_device(None)


def test_attributes_that_raise_what_they_like() -> None:
    class Particular(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

        def __getattr__(self, name: str) -> torch.Tensor | nn.Module:
            try:
                return super().__getattr__(name)
            except AttributeError:
                raise ValueError(f"who asks for {name}") from None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.first(x).relu()
            return hidden @ self.second.weight.T + self.second.bias

    report = initlint.check(Particular)
    (target,) = report.targets
    assert (target.status, target.inputs, target.not_run, target.findings) == ("ok", "inferred", (), ())


class Hostile(list[int]):
    """Raises whatever is done with it."""

    def __iter__(self) -> Any:
        raise RuntimeError("no looks")

    __len__ = __getitem__ = __repr__ = __eq__ = __iter__  # type: ignore[assignment]


class Results(nn.Module):
    """Returns what a function makes of its output."""

    def __init__(self, made: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.head, self.made = nn.Linear(4, 2), made

    def forward(self, x: torch.Tensor) -> Any:
        return self.made(self.head(x))


def endless(x: torch.Tensor) -> Iterator[torch.Tensor]:
    while True:
        yield x


@pytest.mark.parametrize("made", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr, endless])
def test_results_of_odd_kinds(made: Callable[[torch.Tensor], Any]) -> None:
    (target,) = initlint.check(lambda: Results(made)).targets
    assert (target.status, target.inputs, target.not_run, target.findings) == ("ok", "inferred", (), ())


def test_hostile_objects_in_a_model() -> None:
    def build() -> nn.Module:
        model = healthy()
        for name in ("config", "items", "hparams"):
            object.__setattr__(model, name, Hostile())
        return model

    (target,) = initlint.check(build).targets
    assert (target.status, target.inputs, target.not_run, target.findings) == ("ok", "inferred", (), ())


def test_a_model_with_one_mode_only() -> None:
    class Fixed(nn.Sequential):
        def train(self, mode: bool = True) -> Any:
            raise NotImplementedError("exported")

    (target,) = initlint.check(lambda: Fixed(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))).targets
    assert (target.status, target.inputs, target.not_run, target.findings) == ("ok", "inferred", (), ())
