"""The benchmarks' models are healthy, and the faults written into them are what their names say."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import compare_reports
from benchmarks.architectures import ARCHITECTURES, BY_NAME, Architecture
from benchmarks.faults import FAULTS, Fault, is_real, owner, weights
from benchmarks.healthy_seeds import Alarm, show


def built(architecture: Architecture, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return architecture.build()


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_healthy_model_is_small_and_learns(architecture: Architecture) -> None:
    model = built(architecture)
    assert sum(p.numel() for p in model.parameters()) < 300_000
    trained = [p for p in model.parameters() if p.requires_grad]
    inputs = architecture.inputs()
    optimiser = torch.optim.Adam(trained, 3e-3)
    losses = []
    for _ in range(6):
        optimiser.zero_grad()
        loss = architecture.loss(model(*inputs))
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        optimiser.step()
    assert all(p.grad is not None for p in trained)
    assert min(losses[3:]) < losses[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_same_seed_same_model(architecture: Architecture) -> None:
    first, second = built(architecture).state_dict(), built(architecture).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


Holds = Callable[[nn.Module, nn.Module, str], bool]


def std_ratio(before: nn.Module, after: nn.Module, place: str) -> float:
    return (after.get_parameter(place).std() / before.get_parameter(place).std()).item()


def constant(value: float) -> Holds:
    return lambda before, after, place: bool((after.get_parameter(place) == value).all())


def all_zero(before: nn.Module, after: nn.Module, place: str) -> bool:
    chosen = [w for name, w in weights(after).items() if name == place or name.startswith(f"{place}.")]
    return bool(chosen) and not any(w.any() for w in chosen)


def scaled(factor: float) -> Holds:
    return lambda before, after, place: torch.allclose(
        after.get_parameter(place), before.get_parameter(place) * factor
    )


def left_at_default(before: nn.Module, after: nn.Module, place: str) -> bool:
    return not torch.equal(before.get_parameter(f"{place}.weight"), after.get_parameter(f"{place}.weight"))


def cloned(before: nn.Module, after: nn.Module, place: str) -> bool:
    first = after.get_submodule(f"{place.rpartition('.')[0]}.0").state_dict()
    second = after.get_submodule(place).state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def hidden(before: nn.Module, after: nn.Module, place: str) -> bool:
    parent, local = owner(after, place)
    return hasattr(parent, local) and not any(n.startswith(place) for n, _ in after.named_parameters())


HOLDS: dict[str, tuple[str, str, Holds]] = {
    "constant 0.05": ("vit", "blocks.2.mlp.fc1.weight", constant(0.05)),
    "constant 0.5": ("lstm", "lstm.weight_ih_l1", constant(0.5)),
    "constant 1": ("resnet", "layers.3.conv1.weight", constant(1.0)),
    "constant 0.05, all layers": ("ppo", "", lambda b, a, p: constant(0.05)(b, a, "actor.2.weight")),
    "zero": ("moe", "blocks.1.experts", all_zero),
    "× 100": ("gpt", "wpe.weight", scaled(100)),
    "× 0.01": ("mamba", "mixers.1.in_proj.weight", scaled(0.01)),
    "gain 3, one layer": ("kaiming-mlp", "4.weight", lambda b, a, p: 1.9 < std_ratio(b, a, p) < 2.4),
    "gain 3, plain stack": ("gcn", "", lambda b, a, p: 2.5 < std_ratio(b, a, "convs.1.weight") < 3.5),
    "linear gain before ReLU": ("plain-cnn", "", lambda b, a, p: 0.65 < std_ratio(b, a, "2.weight") < 0.76),
    "wrong fan": (
        "vit",
        "blocks.0.mlp.fc1.weight",
        lambda b, a, p: abs(a.get_parameter(p).std().item() - math.sqrt(2 / 256)) < 0.004,
    ),
    "transposed fan": ("lstm", "fc.weight", lambda b, a, p: a.get_parameter(p).std().item() > 0.5),
    "missing layer": ("llama", "layers.2.up_proj", left_at_default),
    "norm gain ~ N(0, 0.02)": (
        "unet",
        "middle.norm1.weight",
        lambda b, a, p: a.get_parameter(p).abs().max().item() < 0.1,
    ),
    "bias 10": ("ppo", "actor.2.bias", constant(10)),
    "bias -10": ("bert", "layers.1.intermediate.bias", constant(-10)),
    "clone": ("gpt", "h.2", cloned),
    "unregistered": ("vit", "blocks", hidden),
    "frozen": ("convnext", "stage2.0.pwconv1.weight", lambda b, a, p: not a.get_parameter(p).requires_grad),
    "uninitialised": (
        "mlp-mixer",
        "stem.weight",
        lambda b, a, p: bool(a.get_parameter(p).isnan().all()),
    ),
    "saturating": ("lstm", "lstm.weight_hh_l0", scaled(30)),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_fault_is_what_its_name_says(fault: Fault) -> None:
    name, place, holds = HOLDS[fault.name]
    architecture = BY_NAME[name]
    healthy = built(architecture)
    assert place in fault.places(architecture, healthy)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)  # fills what nobody writes with NaN
    try:
        faulty, named = fault.inject(architecture, place)
    finally:
        torch.use_deterministic_algorithms(False)
    assert holds(healthy, faulty, place)
    assert place in named or not place
    faulty(*architecture.inputs())


def test_zero_end_of_a_residual_branch_is_no_fault_and_a_zero_branch_is() -> None:
    zero = next(fault for fault in FAULTS if fault.name == "zero")
    assert not is_real(zero, BY_NAME["moe"], "blocks.1.experts.w2", effect=10)
    assert is_real(zero, BY_NAME["moe"], "blocks.1.experts", effect=10)


def test_bias_before_a_softmax_over_keys_is_no_fault_and_before_a_tanh_is() -> None:
    """A constant bias on all keys shifts every score alike."""
    large = next(fault for fault in FAULTS if fault.name == "bias 10")
    assert not is_real(large, BY_NAME["bert"], "layers.0.key.bias", effect=10)
    assert is_real(large, BY_NAME["bert"], "pooler.bias", effect=10)


def test_a_larger_scale_is_a_fault_where_training_suffers() -> None:
    scale = next(fault for fault in FAULTS if fault.name == "gain 3, one layer")
    assert not is_real(scale, BY_NAME["resnet"], "layers.1.conv1.weight", effect=10)
    assert is_real(scale, BY_NAME["gpt"], "h.1.c_attn.weight", effect=10)


def test_alarms_are_counted_by_rule_and_model(capsys: pytest.CaptureFixture[str]) -> None:
    alarms = [Alarm("vit", seed, "IL203 huge-variance", "head.weight", "too large") for seed in range(3)]
    show(alarms, lints=10)
    printed = capsys.readouterr().out
    assert "10 lints of healthy models: 3 false alarms" in printed
    assert "3  IL203 huge-variance  vit  seed 0  head.weight: too large" in printed


def compared(
    folder: Path, before: object, after: object, monkeypatch: pytest.MonkeyPatch, suffix: str = ".json"
) -> int:
    """The exit status of a comparison of two documents."""
    paths = folder / f"before{suffix}", folder / f"after{suffix}"
    for path, document in zip(paths, (before, after), strict=True):
        lines = document if isinstance(document, list) else [document]
        path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["compare_reports", *map(str, paths)])
    return compare_reports.main()


def linted(target: str, seconds: float, **values: object) -> dict[str, object]:
    return {"target": target, "seconds": {"probe": seconds}, **values}


def test_reports_that_differ_in_their_seconds_only_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = ({"targets": [linted("a.py", seconds, findings=[])]} for seconds in (0.1, 0.2))
    assert compared(tmp_path, before, after, monkeypatch) == 0
    assert capsys.readouterr().out == "1 targets, 0 differ\n"


def test_each_difference_is_told_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [linted("a.py", 1, findings=[{"rule": "x", "line": 3}]), linted("b.py", 1, rules_run=44)]
    after = [linted("a.py", 2, findings=[{"rule": "x", "line": 4}, {}]), linted("c.py", 1, rules_run=44)]
    assert compared(tmp_path, before, after, monkeypatch, ".jsonl") == 1
    assert capsys.readouterr().out.splitlines() == [
        "a.py",
        "  findings[0].line: 3 -> 4",
        "  findings[1]: nothing -> {}",
        "b.py",
        f"  only in {tmp_path / 'before.jsonl'}",
        "c.py",
        f"  only in {tmp_path / 'after.jsonl'}",
        "3 targets, 3 differ",
    ]


def test_values_of_another_type_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """True and 1, or 1 and 1.0, are other bytes."""
    before, after = ({"targets": [linted("a.py", 1, line=line)]} for line in (1, True))
    assert compared(tmp_path, before, after, monkeypatch) == 1
    assert "  line: 1 -> true" in capsys.readouterr().out


def test_a_target_that_recurs_is_compared_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {"targets": [linted("a.py", 1, line=1), linted("a.py", 1, line=2)]}
    after = {"targets": [linted("a.py", 1, line=1), linted("a.py", 1, line=3)]}
    assert compared(tmp_path, before, after, monkeypatch) == 1
    assert capsys.readouterr().out.splitlines() == ["a.py (2)", "  line: 2 -> 3", "2 targets, 1 differ"]
