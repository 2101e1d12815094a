"""The parent's side: lints each target in a process of its own, and makes an error of its death.

A crash, a hang or an exit() of one target leaves the others alone.

The processes are forked from a server that has imported torch once; where there is no fork they are
spawned. A worker sends its stage as it goes and its report at the end. Nothing but plain values and
initlint's own records crosses.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from initlint.errors import InitlintError, TargetError
from initlint.report import Failure, NotRun, TargetReport
from initlint.rule import Need
from initlint.source import own_line
from initlint.target import parse
from initlint.workers.child import serve
from initlint.workers.memory import available
from initlint.workers.wire import REPORT, STAGE, Share, Task, failed_report, unpickled

FORWARD = ("probe", "trace")  #: stages that run the model's forward
VALUES: frozenset[Need] = frozenset({"provenance", "statistics"})  #: what is known without it


@dataclass
class Worker:
    """A running process and what it has told so far."""

    index: int
    task: Task
    process: BaseProcess
    connection: Connection
    dump: Path  # where it writes its stack when it crashes
    first_failure: Failure | None  # why the first try failed; this one does without the forward
    stage: str = "import"
    deadline: float | None = None

    def report(self) -> TargetReport | None:
        """The report, if it has arrived; the stages before it are taken in."""
        while self.connection.poll():
            message = self.connection.recv_bytes()
            if message.startswith(REPORT):
                return unpickled(message[len(REPORT) :], self.task.target)
            self.stage = message[len(STAGE) :].decode()
            if self.deadline is None and self.task.timeout:
                self.deadline = time.monotonic() + self.task.timeout
        return None


def run(
    tasks: Sequence[Task],
    *,
    jobs: int = 1,
    memory: int | None = None,
    verbose: bool = False,
    progress: Callable[[str, str], None] = lambda target, stage: None,
) -> tuple[TargetReport, ...]:
    """Reports of the targets, linted `jobs` at a time, in the order of the tasks.

    `memory` is the number of bytes that all workers together may use, by default most of what is
    available. `progress` hears of every stage of every target. Interrupted, it ends all workers.
    """
    reports: dict[int, TargetReport] = {}
    waiting: deque[tuple[int, Task, Failure | None]] = deque()
    for index, task in enumerate(tasks):
        try:
            parse(task.target.model)
            waiting.append((index, task, None))
        except TargetError as error:
            reports[index] = failed_report(task.target, error)
    running: list[Worker] = []
    jobs = max(1, min(jobs, len(waiting)))
    share = _share(jobs, memory)
    context = _context(tasks) if waiting else None
    with TemporaryDirectory(prefix="initlint-") as folder:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(_start(context, *waiting.popleft(), share, Path(folder), verbose))
                _wait(running)
                for worker in tuple(running):
                    report = _outcome(worker, progress)
                    if report is None:
                        continue
                    running.remove(worker)
                    _end(worker)
                    retry = _retry(worker, report)
                    if retry is not None:
                        waiting.appendleft(retry)
                    else:
                        reports[worker.index] = _final_report(worker, report, tasks[worker.index])
        finally:
            for worker in running:
                _end(worker)
    return tuple(reports[index] for index in range(len(tasks)))


def _share(jobs: int, memory: int | None) -> Share:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    total = memory if memory is not None else available()
    return Share(max(1, cores // jobs), None if total is None else int(total / jobs))


# ---------------------------------------------------------------- starting and ending
def _context(tasks: Sequence[Task]) -> BaseContext:
    """A forkserver that has imported torch, the engine and the rules; spawn where there is no fork."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    modules = {type(rule).__module__ for task in tasks for rule in task.rules}
    context.set_forkserver_preload(["initlint.engine", "initlint.cli", *sorted(modules)])
    from multiprocessing import forkserver

    # A user's random.py in the working directory must not stand in for the library's, and Ctrl-C is
    # the parent's to handle.
    with _environment("PYTHONSAFEPATH", "1"), _without_signal(signal.SIGINT):
        forkserver.ensure_running()
    return context


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _without_signal(number: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def _start(
    context: Any,
    index: int,
    task: Task,
    first_failure: Failure | None,
    share: Share,
    folder: Path,
    verbose: bool,
) -> Worker:
    ours, theirs = context.Pipe(duplex=False)
    dump = folder / f"{index}{'-again' if first_failure else ''}"
    dump.touch()
    process = context.Process(
        target=serve, args=(theirs, task, share, str(dump), verbose, "PYTHONSAFEPATH" in os.environ)
    )
    try:
        process.start()
    except (OSError, EOFError) as error:
        raise InitlintError(
            f"the worker processes cannot be started: {error or type(error).__name__}"
        ) from error
    theirs.close()
    return Worker(index, task, process, ours, dump, first_failure)


def _wait(running: Sequence[Worker]) -> None:
    """Sleep until a worker says something, ends, or has used up its time."""
    deadlines = [worker.deadline for worker in running if worker.deadline is not None]
    timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
    wait([w.connection for w in running] + [w.process.sentinel for w in running], timeout)


def _outcome(worker: Worker, progress: Callable[[str, str], None]) -> TargetReport | None:
    """The report of a worker that is done, one way or another; None while it is running."""
    target = worker.task.target.name
    ended = not worker.process.is_alive()
    stage = worker.stage
    try:
        report = worker.report()
        if report is not None:
            return report
    except (EOFError, OSError):
        ended = True
        worker.process.join(1.0)
    if worker.stage != stage:
        progress(target, worker.stage)
    if ended:
        return TargetReport(target, status="error", error=_crash(worker))
    if worker.deadline is not None and time.monotonic() >= worker.deadline:
        return TargetReport(target, status="error", error=_hang(worker))
    return None


def _end(worker: Worker) -> None:
    """Kill the process and all that it started, and wait until it is gone."""
    pid = worker.process.pid
    if pid is not None and hasattr(os, "killpg"):
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            worker.process.kill()  # not yet the leader of a group of its own, or gone
    else:
        worker.process.kill()
    worker.process.join()
    worker.process.close()
    worker.connection.close()


# ---------------------------------------------------------------- what a failure means
def _crash(worker: Worker) -> Failure:
    code = worker.process.exitcode
    file, line = _dumped_line(worker.dump)
    if code is None:
        message = f"the process cut its connection to initlint in the {worker.stage} stage"
        return Failure(worker.stage, "BrokenPipeError", message, file, line)
    if code >= 0:
        message = f"the process ended with exit status {code} in the middle of the {worker.stage} stage"
        return Failure(worker.stage, "os._exit", message, file, line)
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    message = f"the process crashed with {name} ({signal.strsignal(-code)}) in the {worker.stage} stage"
    if name == "SIGKILL":
        message += "; most likely the machine ran out of memory"
    return Failure(worker.stage, name, message, file, line)


def _hang(worker: Worker) -> Failure:
    if hasattr(signal, "SIGUSR1") and worker.process.pid is not None:
        os.kill(worker.process.pid, signal.SIGUSR1)
        patience = time.monotonic() + 1.0
        while not worker.dump.stat().st_size and time.monotonic() < patience:
            time.sleep(0.02)
        time.sleep(0.05)
    file, line = _dumped_line(worker.dump)
    message = f"no result after {worker.task.timeout:g} s, stopped in the {worker.stage} stage"
    return Failure(worker.stage, "TimeoutError", message, file, line)


def _dumped_line(dump: Path) -> tuple[str | None, int | None]:
    """The user's line in a stack written by faulthandler, whose calls come innermost first."""
    text = dump.read_text(encoding="utf-8", errors="replace")
    calls = re.findall(r'^  File "(.*)", line (\d+) in ', text, re.MULTILINE)
    return own_line([(file, int(line)) for file, line in reversed(calls)])


def _retry(worker: Worker, report: TargetReport) -> tuple[int, Task, Failure] | None:
    """A second try after a crash or a hang in the forward: by the rules that judge the values alone."""
    task, error = worker.task, report.error
    if (
        error is None
        or report.model is not None
        or error.stage not in FORWARD
        or worker.first_failure is not None
    ):
        return None
    return worker.index, replace(task, rules=tuple(r for r in task.rules if r.needs <= VALUES)), error


def _final_report(worker: Worker, report: TargetReport, task: Task) -> TargetReport:
    """The report of a second try, beside the error of the first."""
    failure = worker.first_failure
    if failure is None:
        return report
    reason = f"the {failure.stage} failed: {failure.message}"
    left_out = tuple(NotRun(rule.name, reason) for rule in task.rules if not rule.needs <= VALUES)
    return replace(report, status="error", error=failure, not_run=(*report.not_run, *left_out))
