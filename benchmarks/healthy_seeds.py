"""Healthy models x seeds: every warning or error is a false alarm.

Run from a checkout: `python -m benchmarks.healthy_seeds --seeds 1000`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.architectures import ARCHITECTURES, BY_NAME
from initlint import engine, registry

STEP = 25  # seeds that one task lints


@dataclass(frozen=True, slots=True)
class Task:
    """One architecture under some seeds."""

    architecture: str
    seeds: range


@dataclass(frozen=True, slots=True)
class Alarm:
    """A warning or error on a healthy model, or a failure of the target."""

    architecture: str
    seed: int
    rule: str
    subject: str
    message: str


def lint(task: Task) -> list[Alarm]:
    """Build, lint and collect what is said."""
    architecture = BY_NAME[task.architecture]
    return [
        alarm
        for seed in task.seeds
        for alarm in alarms(architecture.name, architecture.build, architecture.inputs, seed)
    ]


def alarms(
    name: str, build: Callable[[], nn.Module], inputs: Callable[[], tuple[object, ...]], seed: int
) -> list[Alarm]:
    """What is said of a model that is built, and run, under a seed."""
    torch.set_num_threads(1)
    torch.manual_seed(-1 - seed)  # inputs under the seed of the build would repeat the weights
    given = inputs()
    rules = [rule() for rule in registry.load().select([])]
    settings = engine.Settings(seed=seed)
    report = engine.examine(name, lambda: build, rules, inputs=lambda: given, settings=settings)
    found = [
        Alarm(name, seed, f"{f.code} {f.rule}", f.subject, f.message)
        for f in report.findings
        if f.severity != "note"
    ]
    if report.error is not None:
        found.append(Alarm(name, seed, "failed", report.error.stage, report.error.message))
    return found


def show(found: Sequence[Alarm], lints: int) -> None:
    """Alarms by rule and model, one instance of each in full."""
    print(f"{lints} lints of healthy models: {len(found)} false alarms")
    first = {(a.rule, a.architecture): a for a in reversed(found)}
    for key, times in Counter((a.rule, a.architecture) for a in found).most_common():
        a = first[key]
        print(f"{times:6d}  {a.rule}  {a.architecture}  seed {a.seed}  {a.subject}: {a.message}")


def main() -> int:
    """Lint, count, and fail if anything was said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="seeds per architecture")
    parser.add_argument("--architectures", nargs="+", default=list(BY_NAME), choices=list(BY_NAME))
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    tasks = [
        Task(architecture.name, range(start, min(start + STEP, arguments.seeds)))
        for start in range(0, arguments.seeds, STEP)
        for architecture in ARCHITECTURES
        if architecture.name in arguments.architectures
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        found = [alarm for some in pool.map(lint, tasks) for alarm in some]
    show(found, sum(len(task.seeds) for task in tasks))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
