"""Healthy models x seeds: every warning or error is a false alarm.

Run from a checkout: `python -m benchmarks.healthy_seeds --seeds 1000`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch

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
    torch.set_num_threads(1)
    architecture = BY_NAME[task.architecture]
    rules = [rule() for rule in registry.load().select([])]
    alarms = []
    for seed in task.seeds:
        torch.manual_seed(-1 - seed)  # inputs under the seed of the build would repeat the weights
        inputs = architecture.inputs()
        report = engine.examine(
            task.architecture,
            lambda: architecture.build,
            rules,
            inputs=lambda inputs=inputs: inputs,  # type: ignore[misc]
            settings=engine.Settings(seed=seed),
        )
        if report.error is not None:
            alarms.append(Alarm(task.architecture, seed, "failed", report.error.stage, report.error.message))
        alarms += [
            Alarm(task.architecture, seed, f"{f.code} {f.rule}", f.subject, f.message)
            for f in report.findings
            if f.severity != "note"
        ]
    return alarms


def show(alarms: Sequence[Alarm], lints: int) -> None:
    """Alarms by rule and model, one instance of each in full."""
    print(f"{lints} lints of healthy models: {len(alarms)} false alarms")
    first = {(a.rule, a.architecture): a for a in reversed(alarms)}
    for key, times in Counter((a.rule, a.architecture) for a in alarms).most_common():
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
        alarms = [alarm for found in pool.map(lint, tasks) for alarm in found]
    show(alarms, sum(len(task.seeds) for task in tasks))
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
