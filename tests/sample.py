"""One small report that every output format is shown with."""

from __future__ import annotations

import math
from pathlib import Path

from initlint.evidence.build import Provenance
from initlint.evidence.model import Tensor
from initlint.evidence.signals import Gradient, Scale
from initlint.evidence.use import Use
from initlint.evidence.values import Scheme, Statistics
from initlint.finding import Finding, Location, Site, Suggestion
from initlint.report.records import Failure, ModelSummary, NotRun, Report, TargetReport, Tool

GOLDEN = Path(__file__).parent / "golden"
SOURCE = str(GOLDEN / "mymodel.py")
DEPTH = 12


def _constant() -> Finding:
    names = [f"blocks.{i}.{layer}.weight" for layer in ("fc1", "fc2") for i in range(DEPTH)]
    vanished = Finding(
        code="IL403",
        rule="vanishing-signal",
        severity="warning",
        subject="blocks.4",
        related=tuple(f"blocks.{i}" for i in range(5, DEPTH)),
        message="the signal falls to 0.1 of the input's scale or less",
        measured={"rms": 0.0312},
        expected={"rms": "about 1"},
        site=Site(SOURCE, 17, "__init__"),
    )
    return Finding(
        code="IL101",
        rule="constant-weight",
        severity="error",
        subject=names[0],
        related=tuple(names[1:]),
        message="every value is 0.1, and all 512 units are still equal after 3 training steps",
        help="draw the weight from a distribution, for example nn.init.kaiming_uniform_",
        measured={"std": 0.0, "equal units": 512},
        expected={"std": "above 0"},
        site=Site(SOURCE, 10, "__init__"),
        locations=(Location(Site(SOURCE, 19, "__init__"), "not touched by this initialiser"),),
        suggestion=Suggestion(
            'nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")',
            True,
            "all units differ after one step",
        ),
        consequences=(vanished,),
    )


def _large_bias() -> Finding:
    return Finding(
        code="IL210",
        rule="large-bias",
        severity="warning",
        subject="head.bias",
        message="std 48.7 here, about 0.051 expected (1/√(3·128)): the bias decides the output",
        help="start from zero",
        measured={"std": 48.71234, "absmax": math.inf},
        expected={"std": 0.0510310},
        site=Site(SOURCE, 20, "__init__"),
    )


def _hidden() -> Finding:
    return Finding(
        code="IL409",
        rule="unused-parameter",
        severity="warning",
        subject="aux.weight",
        message="is trainable and takes part in no output",
        suppressed="mymodel.py:18 ignore[IL409] used by the second stage only",
    )


def _tensors() -> tuple[Tensor, ...]:
    def tensor(name: str, shape: tuple[int, ...], std: float, scheme: Scheme | None, rms: float) -> Tensor:
        figures = Statistics(
            count=10, minimum=-2 * std, maximum=2 * std, mean=0, std=std, skewness=0, kurtosis=3
        )
        return Tensor(
            name,
            "parameter",
            shape,
            "float32",
            provenance=Provenance(construction=Site(SOURCE, 7, "__init__")),
            statistics=figures,
            use=Use("matrix", "aten.mm", name.rpartition(".")[0], fan_in=shape[-1])
            if len(shape) > 1
            else None,
            schemes=(scheme,) if scheme else (),
            gradient=Gradient(Scale(rms=rms, mean=0, std=rms, absmax=rms, zeros=0)),
        )

    default = Scheme("default", "uniform", std=0.051031, text="kaiming_uniform_(a=√5)")
    blocks = [
        tensor(f"blocks.{i}.fc1.weight", (512, 128), 0.051 + 1e-5 * i, default, 2e-3 / (i + 1))
        for i in range(DEPTH)
    ]
    bias = tensor("head.bias", (10,), 48.7, None, 0.01)
    return (
        *blocks,
        bias,
        Tensor("codes", "buffer", (2, 3), "float8_e5m2", unread="float8_e5m2 cannot be read"),
    )


REPORT = Report(
    tool=Tool(version="0.1.0", torch="2.13.0", python="3.11.9", seed=0, device="cpu"),
    targets=(
        TargetReport(
            target="mymodel:Model",
            model=ModelSummary("Model", parameters=50, elements=1_583_370, bytes=6_333_480),
            trace="recorded",
            inputs="inferred",
            inputs_text="float32[2, 16, 128], inferred",
            seconds={"import": 1.0, "construct": 0.25, "statistics": 0.01, "probe": 0.2},
            not_run=(
                NotRun(
                    "non-reproducible-init", "the model is not built a second time: building it takes long"
                ),
                NotRun("identical-shards", "no process group"),
                NotRun("replica-mismatch", "no process group"),
            ),
            findings=(_large_bias(), _hidden(), _constant()),
            tensors=_tensors(),
            rules_run=40,
        ),
        TargetReport(
            target="tiny",
            status="error",
            error=Failure("build", "ValueError", "width 0 is\nnot positive", SOURCE, 16),
        ),
        TargetReport(
            target="healthy",
            model=ModelSummary("Linear", parameters=2, elements=110, bytes=440),
            trace="recorded",
            inputs="hint",
            inputs_text="float32[2, 10], from example_input_array",
            seconds={"construct": 0.001},
            rules_run=43,
        ),
    ),
)
