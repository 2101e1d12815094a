"""Thresholds against what healthy models reach and what injected faults show.

    python -m benchmarks.calibration [--jobs 2]
    python -m benchmarks.calibration --models MODULE:FUNCTION

The first measures the models of the benchmarks, healthy and with faults in them; the second adds healthy
models from elsewhere: FUNCTION returns a mapping of names to pairs of callables, the first of which builds a
model and the second its inputs, as `--inputs` of the command takes them. Each replaces its own part of
`calibration.json`, from which `calibration.md` is written anew and tests/test_calibration.py reads.

Of each healthy model counts what comes nearest to a fault, of each fault what the parameter shows that has
it. A fault counts only where it harms the training in plain torch (`is_real` in `faults.py`), at places
where the figure can be measured without the fault too.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import packages_distributions, version
from itertools import islice
from pathlib import Path
from typing import TypedDict

import torch
from torch import nn

from benchmarks import random_models
from benchmarks.architectures import BY_NAME, Architecture
from benchmarks.faults import Fault, is_real
from benchmarks.thresholds import THRESHOLDS, UNMEASURED, WITHOUT_GAP, Threshold
from initlint import Evidence, Finding, Rule, __version__, engine

Build = Callable[[], nn.Module]
Inputs = Callable[[], object]
Models = Mapping[str, tuple[Build, Inputs]]


class Summary(TypedDict):
    """Of the figures for one threshold."""

    count: int
    quantiles: list[float]
    edge: str


class Part(TypedDict):
    """Of the figures: one set of models."""

    command: str
    versions: dict[str, str]
    samples: int
    thresholds: dict[str, Summary]


Figures = dict[str, Part]

FIGURES = Path(__file__).with_name("calibration.json")
TABLE = Path(__file__).with_name("calibration.md")
TRIES = 4  # places looked at for some that make a real fault
ARCHITECTURES = (  # that faults are written into
    "kaiming-mlp", "ppo", "gpt", "lstm", "gcn", "decoder", "bottlenecks", "bert", "plain-cnn", "narrow-graph",
    "siren", "seq2seq", "llama", "vit", "t5", "gat", "moe", "resnet",
)  # fmt: skip
EFFECT = 10.0  # factor by which a parameter is out of step, as in the fault matrix
HEALTHY, FAULTY = (0.5, 0.9, 0.99, 1.0), (0.0, 0.01, 0.1, 0.5)  # quantiles, from harmless to harmful
BEGIN = 0.5  # of the faults lie beyond the gap: what one symptom does not show, another one does
NOTHING: Summary = {"count": 0, "quantiles": [], "edge": ""}
INTRODUCTION = """\
Of a healthy model counts the figure that comes nearest to a fault, of a fault the figure of the parameter
that has it. Symptoms are measured at weights that are off by a factor from which on rules ask for symptoms
(`IL205.visible`), options of rules by the value at which the rule begins to speak, all else being as shipped.
A fault counts only where it harms the training in plain torch. The gap lies between the worst healthy model
and the median fault: what does not show in one symptom shows in another (`fault_matrix.md`)."""
PARTS = {
    "healthy": "Models of the benchmarks",
    "elsewhere": "Published models",
    "faulty": "Injected faults",
}
HEALTHY_PARTS = "healthy", "elsewhere"
FAULTS: tuple[Fault, ...] = tuple(dict.fromkeys(fault for t in THRESHOLDS for fault in t.faults))
FAULT_BY_NAME = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures of one model, or of one fault in it, by the names of the thresholds that they belong to."""

    name: str
    figures: Mapping[str, float]


# ---------------------------------------------------------------- measuring


class Listener(Rule):
    """Keeps the evidence."""

    code, name, severity = "X001", "listener", "note"
    needs = frozenset({"provenance", "statistics", "graph", "probe"})

    def check(self, model: Evidence) -> list[Finding]:
        """Find nothing."""
        self.heard = model
        return []


def evidence(name: str, build: Build, inputs: Inputs, seed: int) -> Evidence:
    """All that rules may know of a model that is built and run; RuntimeError where it fails."""
    torch.set_num_threads(1)
    torch.manual_seed(-1 - seed)  # inputs under the seed of the build would repeat the weights
    given = inputs()
    listener = Listener()
    settings = engine.Settings(seed=seed)
    report = engine.examine(name, lambda: build, [listener], inputs=lambda: given, settings=settings)
    if report.error is not None:
        raise RuntimeError(f"{name}: {report.error.stage}: {report.error.message}")
    return listener.heard


def measured(name: str, model: Evidence, thresholds: Iterable[Threshold], *names: str) -> Sample:
    """What the thresholds are compared with, at the named parameters or anywhere."""
    figures = {t.name: t.worst(model, names or None) for t in thresholds}
    return Sample(name, {name: figure for name, figure in figures.items() if figure is not None})


def healthy(name: str, seeds: range) -> list[Sample]:
    """One architecture of the benchmarks under some seeds."""
    build, inputs = BY_NAME[name].build, BY_NAME[name].inputs
    return [
        measured(f"{name}, seed {seed}", evidence(name, build, inputs, seed), THRESHOLDS) for seed in seeds
    ]


def drawn(seeds: range) -> list[Sample]:
    """Healthy models of random shape."""
    samples = []
    for seed in seeds:
        design = random_models.design(seed)
        build, batch = partial(random_models.build, design), partial(random_models.batch, design)
        model = evidence(str(design), build, batch, seed)
        samples.append(measured(f"random model {seed}", model, THRESHOLDS))
    return samples


def elsewhere(function: str, name: str) -> list[Sample]:
    """One healthy model of those that a function gives; none, and a word, where it cannot be run."""
    try:
        return [measured(name, evidence(name, *given(function)[name], seed=0), THRESHOLDS)]
    except RuntimeError as error:
        print(f"left out: {error}", file=sys.stderr)
        return []


def given(function: str) -> Models:
    """The models that MODULE:FUNCTION returns."""
    module, _, name = function.partition(":")
    models: Models = getattr(import_module(module), name)()
    return models


def faulty(name: str, injections: int) -> list[Sample]:
    """Each fault at some places of an architecture."""
    return [
        measured(
            f"{fault.name} in {name}, {place or 'all weights'}",
            model,
            [threshold for threshold in THRESHOLDS if fault in threshold.faults],
            *([place] if place else []),
        )
        for fault, place, model in injected(BY_NAME[name], injections)
    ]


def injected(architecture: Architecture, injections: int) -> Iterator[tuple[Fault, str, Evidence]]:
    """Faults, where they stand, and the evidence of the model."""
    torch.set_num_threads(1)
    for fault in FAULTS:
        torch.manual_seed(0)
        places = fault.places(architecture, architecture.build())
        random.Random(f"{architecture.name}/{fault.name}").shuffle(places)
        real = (place for place in places[:TRIES] if is_real(fault, architecture, place, EFFECT))
        for place in islice(real, injections):
            build = partial(fault.build, architecture, place)
            yield fault, place, evidence(architecture.name, build, architecture.inputs, 0)


# ---------------------------------------------------------------- figures


def summary(threshold: Threshold, samples: Sequence[Sample], shares: Sequence[float]) -> Summary:
    """Quantiles from harmless to harmful, and the model at the edge of the gap."""
    known = [(s.figures[threshold.name], s.name) for s in samples if threshold.name in s.figures]
    known.sort(reverse=threshold.beyond == "below")
    quantiles = [known[min(int(share * len(known)), len(known) - 1)] for share in shares if known]
    edges = quantiles[-1:] if shares is HEALTHY else quantiles[:1]
    return {
        "count": len(known),
        "quantiles": [float(f"{figure:.3g}") for figure, _ in quantiles],
        "edge": "".join(name for _, name in edges),
    }


def part(samples: Sequence[Sample], shares: Sequence[float], command: str) -> Part:
    """What is kept of one set of models: where it comes from and the quantiles for each threshold."""
    return {
        "command": command,
        "versions": versions(sample.name for sample in samples),
        "samples": len(samples),
        "thresholds": {t.name: summary(t, samples, shares) for t in THRESHOLDS},
    }


def versions(models: Iterable[str]) -> dict[str, str]:
    """Versions of initlint, torch and the libraries that the names of models begin with, as "timm.vit"."""
    known = packages_distributions()
    libraries = sorted({name.partition(".")[0] for name in models} & set(known))
    return {
        "initlint": __version__,
        "torch": torch.__version__,
        **{library: version(known[library][0]) for library in libraries},
    }


@dataclass(frozen=True, slots=True)
class Gap:
    """What lies between healthy models and faults: the worst of the ones, and where the others begin."""

    healthy: float
    faulty: float
    beyond: str

    @property
    def exists(self) -> bool:
        """The faults begin farther out than the healthy models end."""
        return self.healthy < self.faulty if self.beyond == "above" else self.healthy > self.faulty

    def holds(self, value: float) -> bool:
        """A value lies in it."""
        return min(self.healthy, self.faulty) < value < max(self.healthy, self.faulty) and self.exists


def gap(threshold: Threshold, figures: Figures) -> Gap:
    """The gap that was measured for a threshold.

    It begins at nothing where no healthy model has a figure, and there is none where no fault has.
    """
    above = threshold.beyond == "above"
    found = {name: some["thresholds"].get(threshold.name, NOTHING) for name, some in figures.items()}
    worst = [found[name]["quantiles"][-1] for name in HEALTHY_PARTS if found.get(name, NOTHING)["count"]]
    faults = found["faulty"]
    return Gap(
        (max if above else min)(worst, default=0.0 if above else math.inf),
        faults["quantiles"][FAULTY.index(BEGIN)] if faults["count"] else math.nan,
        threshold.beyond,
    )


# ---------------------------------------------------------------- the table


def markdown(figures: Figures) -> str:
    """All thresholds at a glance, and the quantiles of each."""
    lines = [
        "# Thresholds, healthy models and faults",
        "",
        *(
            f"{PARTS[name]}: `{some['command']}`, {some['samples']} samples, with "
            f"{', '.join(f'{library} {number}' for library, number in some['versions'].items())}.  "
            for name, some in figures.items()
        ),
        "",
        INTRODUCTION,
        "",
        "| threshold | constant | worst healthy model | faults from | |",
        "|---|---|---|---|---|",
        *(glance(threshold, gap(threshold, figures)) for threshold in THRESHOLDS),
    ]
    for threshold in THRESHOLDS:
        lines += ["", *section(threshold, figures)]
    lines += ["", "## Without a row", "", "| constant | why |", "|---|---|"]
    lines += [f"| {name} | {reason} |" for name, reason in UNMEASURED.items()]
    return "\n".join(lines) + "\n"


def glance(threshold: Threshold, found: Gap) -> str:
    """A row of the first table."""
    verdict = "in the gap" if found.holds(threshold.value) else "outside the gap"
    worst = number(found.healthy) if found.healthy else "–"
    cells = threshold.name, number(threshold.value), worst, number(found.faulty)
    return f"| {' | '.join(cells)} | {verdict if found.exists else 'no gap'} |"


def section(threshold: Threshold, figures: Figures) -> Iterator[str]:
    """Quantiles for one threshold."""
    faults = ", ".join(fault.name for fault in threshold.faults)
    yield f"## {threshold.name} = {number(threshold.value)}"
    yield ""
    yield f"Measured: {threshold.measures}. Faults that lie {threshold.beyond}: {faults}."
    yield ""
    yield "| healthy | models | 50 % | 90 % | 99 % | worst | which |"
    yield "|---|---|---|---|---|---|---|"
    yield from (row(threshold, name, figures[name]) for name in HEALTHY_PARTS if name in figures)
    yield ""
    yield "| faulty | faults | mildest | 1 % | 10 % | 50 % | which |"
    yield "|---|---|---|---|---|---|---|"
    yield row(threshold, "faulty", figures["faulty"])
    if threshold.name in WITHOUT_GAP:
        yield ""
        yield WITHOUT_GAP[threshold.name]


def row(threshold: Threshold, name: str, figures: Part) -> str:
    """A row of a section."""
    found = figures["thresholds"].get(threshold.name, NOTHING)
    quantiles = [number(figure) for figure in found["quantiles"]] or ["–"] * len(HEALTHY)
    return f"| {PARTS[name]} | {found['count']} | {' | '.join(quantiles)} | {found['edge'] or '–'} |"


def number(figure: float) -> str:
    """Three digits; a dash for none."""
    if not math.isfinite(figure):
        return "–"
    return f"{float(f'{figure:.3g}'):g}"


# ---------------------------------------------------------------- the command


def main() -> int:
    """Measure, and write the figures and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", help="MODULE:FUNCTION that gives further healthy models")
    parser.add_argument("--seeds", type=int, default=3, help="of each architecture of the benchmarks")
    parser.add_argument("--random", type=int, default=100, help="models of random shape")
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES, choices=list(BY_NAME))
    parser.add_argument("--injections", type=int, default=2, help="places of a fault in an architecture")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    command = shlex.join(["python", "-m", "benchmarks.calibration", *sys.argv[1:]])
    figures: Figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        if arguments.models:
            names = list(given(arguments.models))
            found = flat(pool.map(partial(elsewhere, arguments.models), names))
            figures["elsewhere"] = part(found, HEALTHY, command)
        else:
            figures |= benchmarks(arguments, pool, command)
    figures = {name: figures[name] for name in PARTS if name in figures}
    FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    TABLE.write_text(markdown(figures), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))
    return 0


def benchmarks(arguments: argparse.Namespace, pool: Executor, command: str) -> Figures:
    """Figures of the models of the benchmarks, healthy and faulty."""
    injected = pool.map(partial(faulty, injections=arguments.injections), arguments.architectures)
    sound = pool.map(partial(healthy, seeds=range(arguments.seeds)), BY_NAME)
    starts = range(0, arguments.random, random_models.STEP)
    of_random_shape = pool.map(
        drawn, [range(n, min(n + random_models.STEP, arguments.random)) for n in starts]
    )
    return {
        "healthy": part([*flat(sound), *flat(of_random_shape)], HEALTHY, command),
        "faulty": part(flat(injected), FAULTY, command),
    }


def flat(samples: Iterable[list[Sample]]) -> list[Sample]:
    return [sample for some in samples for sample in some]


if __name__ == "__main__":
    sys.exit(main())
