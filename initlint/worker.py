"""Lints each target in a process of its own: a crash, a hang or an exit() is that target's error.

The processes are forked from a server that has imported torch once; where there is no fork they are
spawned. A worker sends its stage as it goes and its report at the end. Nothing but plain values and
initlint's own records crosses.
"""

from __future__ import annotations

import faulthandler
import io
import os
import pickle
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from initlint.errors import InitlintError, TargetError
from initlint.memory import available, limit
from initlint.report import Failure, NotRun, TargetReport
from initlint.rule import Need, Rule
from initlint.target import Target, blame, criterion, example, frames, load, module_of, own_line, parse

STAGE, REPORT = b"S", b"R"
FORWARD = ("probe", "trace")  #: stages that run the model's forward
VALUES: frozenset[Need] = frozenset({"provenance", "statistics"})  #: what is known without it


RECURSION = 3000  #: calls; watching a forward adds some to each of its own, of which Python allows 1000


@dataclass(frozen=True, slots=True)
class Task:
    """A target, the rules to judge it by, and the seconds it may take (0: no limit)."""

    target: Target
    rules: tuple[Rule, ...]
    timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker may use of the machine. `memory` in bytes, None: no limit."""

    threads: int
    memory: int | None


@dataclass
class Worker:
    """A running process and what it has told so far."""

    index: int
    task: Task
    process: BaseProcess
    connection: Connection
    dump: Path  # where it writes its stack when it crashes
    failed: Failure | None  # why the first try failed; this one does without the forward
    stage: str = "import"
    deadline: float | None = None

    def reports(self) -> Iterator[TargetReport]:
        """The report, if it has arrived; earlier messages are taken in."""
        while self.connection.poll():
            message = self.connection.recv_bytes()
            if message.startswith(REPORT):
                yield _unpickled(message[len(REPORT) :], self.task.target)
                return
            self.stage = message[len(STAGE) :].decode()
            if self.deadline is None and self.task.timeout:
                self.deadline = time.monotonic() + self.task.timeout


def run(
    tasks: Sequence[Task],
    *,
    jobs: int = 1,
    memory: int | None = None,
    verbose: bool = False,
    progress: Callable[[str, str], None] = lambda target, stage: None,
) -> tuple[TargetReport, ...]:
    """Lint the targets, `jobs` at a time; reports come in the order of the tasks.

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
            reports[index] = _failed(task.target, error)
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
                    again = _without_forward(worker, report)
                    if again is not None:
                        waiting.appendleft(again)
                    else:
                        reports[worker.index] = _completed(worker, report, tasks[worker.index])
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
    with _environment("PYTHONSAFEPATH", "1"), _ignored(signal.SIGINT):
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
def _ignored(number: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def _start(
    context: Any, index: int, task: Task, failed: Failure | None, share: Share, folder: Path, verbose: bool
) -> Worker:
    ours, theirs = context.Pipe(duplex=False)
    dump = folder / f"{index}{'-again' if failed else ''}"
    dump.touch()
    process = context.Process(
        target=_serve, args=(theirs, task, share, str(dump), verbose, "PYTHONSAFEPATH" in os.environ)
    )
    try:
        process.start()
    except (OSError, EOFError) as error:
        raise InitlintError(
            f"the worker processes cannot be started: {error or type(error).__name__}"
        ) from error
    theirs.close()
    return Worker(index, task, process, ours, dump, failed)


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
        for report in worker.reports():
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


def _without_forward(worker: Worker, report: TargetReport) -> tuple[int, Task, Failure] | None:
    """A second try after a crash or a hang in the forward: by the rules that judge the values alone."""
    task, error = worker.task, report.error
    if error is None or report.model is not None or error.stage not in FORWARD or worker.failed is not None:
        return None
    return worker.index, replace(task, rules=tuple(r for r in task.rules if r.needs <= VALUES)), error


def _completed(worker: Worker, report: TargetReport, task: Task) -> TargetReport:
    """The report of a second try, beside the error of the first."""
    failed = worker.failed
    if failed is None:
        return report
    reason = f"the {failed.stage} failed: {failed.message}"
    left_out = tuple(NotRun(rule.name, reason) for rule in task.rules if not rule.needs <= VALUES)
    return replace(report, status="error", error=failed, not_run=(*report.not_run, *left_out))


# ---------------------------------------------------------------- inside the worker


def _serve(
    connection: Connection, task: Task, share: Share, dump: str, verbose: bool, safe_path: bool
) -> None:
    if hasattr(os, "setsid"):
        os.setsid()
    if not safe_path:
        os.environ.pop("PYTHONSAFEPATH", None)
    threading.Thread(target=_follow_parent, daemon=True).start()
    stacks = open(dump, "w")  # noqa: SIM115  # stays open as long as the process
    faulthandler.enable(stacks)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, stacks)
    _redirect()
    if not verbose:
        warnings.simplefilter("ignore")

    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION))

    def enter(stage: str) -> None:
        connection.send_bytes(STAGE + _told(stage).encode())

    report = _limited(task, share, enter, verbose)
    try:
        connection.send_bytes(REPORT + _pickled(report))
    except OSError:  # the target closed the connection; the parent notices
        os._exit(1)
    sys.stderr.flush()
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)  # threads and processes that the target left behind go too
    os._exit(0)


def _follow_parent() -> None:
    """End with the parent, even if it had no time to say so."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _redirect() -> None:
    """Stdout is for the report: what the target prints, from C too, goes to stderr; there is no stdin."""
    sys.stdout.flush()
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = sys.stderr


def _limited(task: Task, share: Share, enter: Callable[[str], None], verbose: bool) -> TargetReport:
    """Lint within the worker's share of cores and memory."""
    enter("import")
    target = task.target
    try:
        import torch

        torch.set_num_threads(min(torch.get_num_threads(), share.threads))
        if target.device == "cpu":  # a GPU's driver maps more than it uses
            limit(share.memory)
        _check_device(target.device)
    except (ImportError, TargetError) as error:
        return _failed(target, blame("import", error))
    report = lint(target, task.rules, enter, verbose)
    failure = report.error
    if failure is None or share.memory is None or not _out_of_memory(failure):
        return report
    message = f"out of memory: a target may use {share.memory / 2**30:.1f} GiB here; {failure.message}"
    return replace(report, error=replace(failure, type="MemoryError", message=message))


def _out_of_memory(failure: Failure) -> bool:
    return failure.type in ("MemoryError", "_ArrayMemoryError") or "can't allocate memory" in failure.message


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except Exception as error:
        message = str(error).split("\n", 1)[0]
        raise TargetError(
            "import", type(error).__name__, f"the device {device!r} cannot be used: {message}"
        ) from error


def lint(
    target: Target,
    rules: Sequence[Rule],
    enter: Callable[[str], None] = lambda stage: None,
    verbose: bool = False,
) -> TargetReport:
    """Lint one target in this process; whatever goes wrong is part of the report."""
    from initlint.engine import Settings, examine

    stages = ["import"]

    def entered(stage: str) -> None:
        stages.append(_told(stage))
        enter(stage)

    folder, inputs, loss = target.folder, target.inputs, target.loss
    try:
        spec = parse(target.model)
        sys.argv = [spec.source]  # a module that reads arguments when imported gets none
        return examine(
            target.name,
            lambda: load(spec, folder),
            rules,
            inputs=None if inputs is None else lambda: example(inputs, folder),
            loss=None if loss is None else lambda: criterion(loss, folder),
            module=lambda: module_of(spec, folder),
            settings=Settings(target.device, target.dtype, target.seed, target.probe, target.input_shape),
            enter=entered,
        )
    except InitlintError as error:
        if isinstance(error, TargetError):
            return _failed(target, error)
        return _failed(target, TargetError(stages[-1], type(error).__name__, str(error)))
    except BaseException as error:
        if verbose:
            traceback.print_exception(error)
        return _failed(target, _unexpected(stages[-1], error))


def _told(stage: str) -> str:
    """A stage's name as reports give it."""
    return "build" if stage == "construct" else stage


def _unexpected(stage: str, error: BaseException) -> TargetError:
    """What the user's code raised; or, where none of it was running, an error of initlint's own."""
    blamed = blame(stage, error)
    if blamed.file is not None or isinstance(error, SystemExit | KeyboardInterrupt | MemoryError):
        return blamed
    file, line = frames(error.__traceback__)[-1]
    return TargetError(stage, blamed.kind, f"internal error of initlint: {blamed.message}", file, line)


def _failed(target: Target, error: TargetError) -> TargetReport:
    failure = Failure(error.stage, error.kind, error.message, error.file, error.line)
    return TargetReport(target.name, status="error", error=failure)


# ---------------------------------------------------------------- what crosses


class _Pickler(pickle.Pickler):
    """Lets plain values and initlint's records through; a subclass of a plain type becomes plain."""

    def reducer_override(self, value: object) -> Any:
        kind = type(value)
        if isinstance(value, type) or kind.__module__.startswith("initlint."):
            return NotImplemented
        for plain in _PLAIN:
            if isinstance(value, plain):
                return plain, (plain(cast(Any, value)),)
        if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "item"):
            number = value.item()
            return type(number), (number,)
        raise pickle.PicklingError(f"the report holds a {kind.__module__}.{kind.__qualname__}")


_PLAIN = (int, float, str, tuple, list, dict, frozenset, set)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("initlint.") or (module == "builtins" and name in _NAMES):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"the report holds a {module}.{name}")


_NAMES = frozenset({"bool", "complex", *(plain.__name__ for plain in _PLAIN)})


def _pickled(report: TargetReport) -> bytes:
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(report)
    except Exception as error:
        message = f"internal error of initlint: the report cannot be sent: {error}"
        failure = Failure("rules", type(error).__name__, message)
        return pickle.dumps(TargetReport(str(report.target), status="error", error=failure))
    return buffer.getvalue()


def _unpickled(message: bytes, target: Target) -> TargetReport:
    try:
        report = _Unpickler(io.BytesIO(message)).load()
    except Exception as error:
        failure = Failure("rules", type(error).__name__, f"the report cannot be read: {error}")
        return TargetReport(target.name, status="error", error=failure)
    assert isinstance(report, TargetReport)
    return report
