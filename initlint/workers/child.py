"""The worker's side: a process that lints one target within its share, and says how far it is."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait

from initlint.errors import InitlintError, TargetError
from initlint.report import Failure, TargetReport, stage_in_errors
from initlint.rule import Rule
from initlint.source import blame, traceback_lines
from initlint.target import Target, criterion, example, load, module_of, parse
from initlint.workers.memory import limit
from initlint.workers.wire import REPORT, STAGE, Share, Task, failed_report, pickled

RECURSION = 3000  #: calls; watching a forward adds some to each of its own, of which Python allows 1000


def serve(
    connection: Connection, task: Task, share: Share, dump: str, verbose: bool, safe_path: bool
) -> None:
    """Lint the task in this process, and send stages and report to the parent."""
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
        connection.send_bytes(STAGE + stage.encode())

    report = _report(task, share, enter, verbose)
    try:
        connection.send_bytes(REPORT + pickled(report))
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


def _report(task: Task, share: Share, enter: Callable[[str], None], verbose: bool) -> TargetReport:
    """The report of a target that is linted within the worker's share of cores and memory."""
    enter("import")
    target = task.target
    try:
        import torch

        torch.set_num_threads(min(torch.get_num_threads(), share.threads))
        if target.device == "cpu":  # a GPU's driver maps more than it uses
            limit(share.memory)
        _check_device(target.device)
    except (ImportError, TargetError) as error:
        return failed_report(target, blame("import", error))
    report = lint(target, task.rules, enter, verbose)
    failure = report.error
    if failure is None or share.memory is None or not _is_out_of_memory(failure):
        return report
    message = f"out of memory: a target may use {share.memory / 2**30:.1f} GiB here; {failure.message}"
    return replace(report, error=replace(failure, type="MemoryError", message=message))


def _is_out_of_memory(failure: Failure) -> bool:
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
    """The report of a target that is linted in this process, with whatever goes wrong.

    `enter` hears the name, as errors give it, of every stage that begins.
    """
    from initlint.engine import Settings, examine

    stages = ["import"]

    def begin(stage: str) -> None:
        stages.append(stage_in_errors(stage))
        enter(stages[-1])

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
            enter=begin,
        )
    except InitlintError as error:
        if isinstance(error, TargetError):
            return failed_report(target, error)
        return failed_report(target, TargetError(stages[-1], type(error).__name__, str(error)))
    except BaseException as error:
        if verbose:
            traceback.print_exception(error)
        return failed_report(target, _target_error(stages[-1], error))


def _target_error(stage: str, error: BaseException) -> TargetError:
    """What the user's code raised; or, where none of it was running, an error of initlint's own."""
    blamed = blame(stage, error)
    if blamed.file is not None or isinstance(error, SystemExit | KeyboardInterrupt | MemoryError):
        return blamed
    file, line = traceback_lines(error.__traceback__)[-1]
    return TargetError(stage, blamed.kind, f"internal error of initlint: {blamed.message}", file, line)
