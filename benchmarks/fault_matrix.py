"""Faults x architectures: how many injected faults are found, and is the right parameter named first?

Run from a checkout: `python -m benchmarks.fault_matrix`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

import initlint
from benchmarks.architectures import BY_NAME
from benchmarks.faults import FAULT_BY_NAME, Names, is_real

ARCHITECTURES = (
    "resnet", "convnext", "vit", "gpt", "llama", "lstm", "unet", "gcn", "mlp-mixer", "mamba",
    "bert", "moe", "kaiming-mlp", "plain-cnn", "ppo", "bottlenecks", "decoder", "plain-unet", "narrow-graph",
)  # fmt: skip
TRIES = 24  # places looked at for one that makes a real fault


@dataclass(frozen=True, slots=True)
class Outcome:
    """What initlint said about one injected fault."""

    architecture: str
    fault: str
    place: str
    found: bool  # some warning or error speaks of it
    first: bool  # the first warning or error is about it
    findings: tuple[str, ...]  # all warnings and errors, in order


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault in one architecture, at some places."""

    architecture: str
    fault: str
    injections: int
    effect: float
    seed: int


def examine(cell: Cell) -> list[Outcome]:
    """Inject and lint."""
    torch.set_num_threads(1)
    return [lint(cell, place) for place in real_places(cell)]


def real_places(cell: Cell) -> list[str]:
    """Random places at which the fault is one."""
    architecture, fault = BY_NAME[cell.architecture], FAULT_BY_NAME[cell.fault]
    torch.manual_seed(cell.seed)
    places = fault.places(architecture, architecture.build())
    random.Random(f"{cell.seed}/{cell.architecture}/{cell.fault}").shuffle(places)
    found: list[str] = []
    for place in places[:TRIES]:
        if len(found) == cell.injections:
            break
        if is_real(fault, architecture, place, cell.effect):
            found.append(place)
    return found


def lint(cell: Cell, place: str) -> Outcome:
    architecture, fault = BY_NAME[cell.architecture], FAULT_BY_NAME[cell.fault]
    torch.manual_seed(-1 - cell.seed)  # inputs under the seed of the build would repeat the weights
    inputs = architecture.inputs()
    report = initlint.check(partial(fault.build, architecture, place), inputs)
    named = fault.inject(architecture, place)[1]
    serious = list(flat(report.at_least("warning")))
    found = any(speaks_of(name, named) for f in serious for name in (f.subject, *f.related))
    said = tuple(f"{f.code} {f.subject or '(model)'}" for f in report.at_least("warning"))
    error = report.targets[0].error
    return Outcome(
        cell.architecture,
        cell.fault,
        place or "(all)",
        found,
        first=bool(serious) and speaks_of(serious[0].subject, named),
        findings=said if error is None else (*said, f"{error.stage}: {error.message}"),
    )


def flat(findings: Iterable[initlint.Finding]) -> Iterator[initlint.Finding]:
    """Findings, each followed by its consequences."""
    for finding in findings:
        yield finding
        yield from flat(f for f in finding.consequences if f.severity != "note")


def speaks_of(subject: str, named: Names) -> bool:
    """The subject is one of the names, the module that holds it, or something inside it."""
    return any(
        subject == name or (subject and subject == name.rpartition(".")[0]) or subject.startswith(f"{name}.")
        for name in named
        if name
    )


# ---------------------------------------------------------------- the table


def markdown(outcomes: Sequence[Outcome], command: str) -> str:
    """The table of faults and architectures, and what was missed."""
    architectures = list(dict.fromkeys(o.architecture for o in outcomes))
    faults = list(dict.fromkeys(o.fault for o in outcomes))
    lines = [
        "# Faults that were injected, and what was found",
        "",
        f"Made by `{command}` with initlint {initlint.__version__} and torch {torch.__version__}.",
        "",
        "Each cell: how many are named first (parameter or its module) of how many were injected.",
        "A fault counts only where it harms the training in plain torch: the loss after 20 steps of Adam is",
        "worse than any seed makes it, or a parameter moves ten times less or more than in any healthy model",
        "(`is_real` in `faults.py`); – where it never does.",
        "",
        f"**Found {share([o.found for o in outcomes])}, named first {share([o.first for o in outcomes])}.**",
        "",
        "| fault | " + " | ".join(architectures) + " | found | named first |",
        "|---|" + "---|" * (len(architectures) + 2),
    ]
    for fault in faults:
        row = [o for o in outcomes if o.fault == fault]
        cells = [cell([o for o in row if o.architecture == a]) for a in architectures]
        totals = [share([o.found for o in row]), share([o.first for o in row])]
        lines.append(f"| {fault} | " + " | ".join(cells + totals) + " |")
    lines += ["", "## Missed, or another parameter named first", ""]
    for o in outcomes:
        if not o.first:
            state = "found, but not first" if o.found else "missed"
            said = ", ".join(o.findings[:4]) or "nothing"
            lines.append(f"- {o.fault} in {o.architecture}, `{o.place}`: {state}; reported: {said}")
    if all(o.first for o in outcomes):
        lines.append("None.")
    return "\n".join(lines) + "\n"


def cell(outcomes: Sequence[Outcome]) -> str:
    return f"{sum(o.first for o in outcomes)}/{len(outcomes)}" if outcomes else "–"


def share(hits: Sequence[bool]) -> str:
    return f"{sum(hits)}/{len(hits)} ({sum(hits) / max(len(hits), 1):.1%})"


def main() -> int:
    """Run the matrix and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--injections", type=int, default=3, help="faults per cell")
    parser.add_argument("--effect", type=float, default=10, help="factor by which a parameter is out of step")
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES, choices=list(BY_NAME))
    parser.add_argument("--faults", nargs="+", default=list(FAULT_BY_NAME), choices=list(FAULT_BY_NAME))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("fault_matrix.md"))
    arguments = parser.parse_args()
    cells = [
        Cell(architecture, fault, arguments.injections, arguments.effect, arguments.seed)
        for fault in arguments.faults
        for architecture in arguments.architectures
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        outcomes = [outcome for cell in pool.map(examine, cells) for outcome in cell]
    command = shlex.join(["python", "-m", "benchmarks.fault_matrix", *sys.argv[1:]])
    text = markdown(outcomes, command)
    arguments.output.write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(outcome.first for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
