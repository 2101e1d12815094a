"""Every way in which a target can go wrong is one clear error of that target; the others are linted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from initlint import registry
from initlint.report.records import TargetReport
from initlint.rule import Rule
from initlint.target.spec import Target
from initlint.workers import pool
from initlint.workers.wire import Task

ODD = """\
import ctypes
import os
import re
import subprocess
import sys
import threading
import time

import torch
from torch import nn

example_inputs = torch.ones(2, 4)


def healthy():
    return nn.Linear(4, 2)


def broken():
    model = healthy()
    model.weight = nn.Parameter(torch.empty(2, 4))
    return model


def contains_itself():
    model = nn.Sequential(nn.Linear(4, 2))
    model[0].up = nn.ModuleList([model])
    return model


def chain():
    class Chain(nn.Module):
        def __init__(self, left):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.next = Chain(left - 1) if left else nn.Identity()

        def forward(self, x):
            return self.next(self.layer(x) + x)

    return Chain(200)


class Bare(nn.Linear):
    def __init__(self):
        pass


def bare():
    return Bare()


class Strict(nn.Linear):
    @property
    def config(self):
        raise RuntimeError("not configured yet")


def strict():
    return Strict(4, 2)


def raises():
    return inner()


def inner():
    raise ValueError("a width of 0\\nis too small")  # raised here


def library_raises():
    return nn.Linear("wide", 2)  # asked here


def leaves():
    sys.exit("no data")  # left here


def interrupts():
    raise KeyboardInterrupt  # interrupted here


def stops_at_once():
    os._exit(0)


def crashes():
    ctypes.string_at(0)  # crashes here


def aborts():
    os.abort()  # aborts here


def killed():
    os.kill(os.getpid(), 9)


def hangs():
    while True:
        time.sleep(0.1)  # hangs here


def hangs_in_c():
    re.match("(a+)+$", "a" * 60 + "b")  # hangs in C here


def takes_all_memory():
    taken = []
    while True:
        taken.append(torch.ones(2**22))  # takes it here


def asks_for_too_much():
    return nn.Linear(2**30, 2**10)  # asks here


def cuts_the_connection():
    os.closerange(3, 64)
    return healthy()


def forks():
    os.fork()
    return healthy()


def leaves_things_behind():
    child = subprocess.Popen(["sleep", "3600"])
    print("left", child.pid, file=open("left.txt", "w"))
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return healthy()


def prints():
    print("printed by python")
    os.system("echo printed by a child")
    ctypes.CDLL(None).puts(b"printed by C")
    return healthy()


class CrashesInForward(nn.Linear):
    def forward(self, x):
        ctypes.string_at(0)  # crashes in forward here


def crashes_in_forward():
    model = CrashesInForward(4, 2)
    model.weight = nn.Parameter(torch.empty(2, 4))
    return model


class HangsInForward(nn.Linear):
    def forward(self, x):
        while True:
            time.sleep(0.1)  # hangs in forward here


def hangs_in_forward():
    model = HangsInForward(4, 2)
    model.weight = nn.Parameter(torch.empty(2, 4))
    return model


class RaisesInForward(nn.Linear):
    def forward(self, x):
        raise ValueError("odd input")  # raises in forward here


def raises_in_forward():
    model = RaisesInForward(4, 2)
    model.weight = nn.Parameter(torch.empty(2, 4))
    return model
"""
HANGING = ("hangs", "hangs_in_c", "hangs_in_forward")
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
pytestmark = POSIX


def line_of(comment: str) -> int:
    return next(i for i, line in enumerate(ODD.splitlines(), 1) if line.endswith(f"# {comment}"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd.py").write_text(ODD)
    return folder


@pytest.fixture(scope="module")
def rules() -> tuple[Rule, ...]:
    return tuple(rule() for rule in registry.load().rules if rule.code in ("IL301", "IL408"))


@pytest.fixture(scope="module")
def reports(folder: Path, rules: tuple[Rule, ...]) -> Mapping[str, TargetReport]:
    """All odd targets in one run: each is between others that must not suffer."""
    names = [
        line[4:].split("(")[0] for line in ODD.splitlines() if line.startswith("def ") and line[4] != "_"
    ]
    names = [name for name in names if name != "inner"]
    tasks = [
        Task(Target(name, f"odd:{name}", str(folder)), rules, 3.0 if name in HANGING else 100.0)
        for name in names
    ]
    before = Path.cwd()
    os.chdir(folder)
    try:
        found = pool.run(tasks, jobs=2, memory=3 * 2**30)
    finally:
        os.chdir(before)
    assert [report.target for report in found] == names
    return {report.target: report for report in found}


def test_a_healthy_target(reports: Mapping[str, TargetReport]) -> None:
    report = reports["healthy"]
    assert (report.status, report.error, report.findings) == ("ok", None, ())
    assert report.model is not None
    assert (report.model.class_name, report.model.elements) == ("Linear", 10)
    assert report.rules_run == 2


def test_a_deep_model_has_room_to_be_watched(reports: Mapping[str, TargetReport]) -> None:
    assert (reports["chain"].error, reports["chain"].inputs) == (None, "given")


def test_a_finding_crosses_with_its_line(reports: Mapping[str, TargetReport], folder: Path) -> None:
    findings = reports["broken"].findings
    assert [(f.code, f.subject) for f in findings] == [("IL301", "weight")]
    assert findings[0].site is not None
    assert findings[0].site.file == str(folder / "odd.py")


@pytest.mark.parametrize(
    ("name", "stage", "kind", "says", "line"),
    [
        ("contains_itself", "build", "TypeError", "contains itself: 0.up.0 is the model again", None),
        ("bare", "build", "TypeError", "Bare.__init__ does not call super().__init__()", None),
        ("raises", "build", "ValueError", "a width of 0", "raised here"),
        ("library_raises", "build", "TypeError", "", "asked here"),
        ("leaves", "build", "SystemExit", "no data", "left here"),
        ("interrupts", "build", "KeyboardInterrupt", "", "interrupted here"),
        ("stops_at_once", "build", "os._exit", "exit status 0 in the middle of the build stage", None),
        ("crashes", "build", "SIGSEGV", "crashed with SIGSEGV", "crashes here"),
        ("aborts", "build", "SIGABRT", "crashed with SIGABRT", "aborts here"),
        ("killed", "build", "SIGKILL", "most likely the machine ran out of memory", None),
        ("hangs", "build", "TimeoutError", "no result after 3 s, stopped in the build stage", "hangs here"),
        ("hangs_in_c", "build", "TimeoutError", "no result after 3 s", "hangs in C here"),
        ("takes_all_memory", "build", "MemoryError", "may use 1.5 GiB", "takes it here"),
        ("asks_for_too_much", "build", "MemoryError", "may use 1.5 GiB", "asks here"),
        ("cuts_the_connection", "build", "os._exit", "in the middle of the build stage", None),
        ("crashes_in_forward", "probe", "SIGSEGV", "in the probe stage", "crashes in forward here"),
        ("hangs_in_forward", "probe", "TimeoutError", "in the probe stage", "hangs in forward here"),
        ("raises_in_forward", "probe", "ValueError", "odd input", "raises in forward here"),
    ],
)
def test_failures(
    name: str,
    stage: str,
    kind: str,
    says: str,
    line: str | None,
    reports: Mapping[str, TargetReport],
    folder: Path,
) -> None:
    error = reports[name].error
    assert reports[name].status == "error"
    assert error is not None
    assert (error.stage, error.type) == (stage, kind)
    assert says in error.message
    if line is None:
        assert error.file is None
    else:
        assert (error.file, error.line) == (str(folder / "odd.py"), line_of(line))


@pytest.mark.parametrize("name", ["crashes_in_forward", "hangs_in_forward", "raises_in_forward"])
def test_what_was_found_before_a_failure_is_kept(name: str, reports: Mapping[str, TargetReport]) -> None:
    report = reports[name]
    assert [(f.code, f.subject) for f in report.findings] == [("IL301", "weight")]
    assert report.model is not None
    assert [rule.rule for rule in report.not_run] == ["non-finite-signal"]
    assert "the probe failed" in report.not_run[0].reason


@pytest.mark.parametrize("name", ["forks", "leaves_things_behind", "prints", "strict"])
def test_oddities_that_are_no_failure(name: str, reports: Mapping[str, TargetReport]) -> None:
    assert (reports[name].status, reports[name].error) == ("ok", None)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


def eventually_gone(pid: int) -> bool:
    patience = time.monotonic() + 20
    while not gone(pid) and time.monotonic() < patience:
        time.sleep(0.05)
    return gone(pid)


@pytest.mark.usefixtures("reports")
def test_nothing_is_left_behind(folder: Path) -> None:
    assert eventually_gone(int((folder / "left.txt").read_text().split()[1]))


def test_a_target_that_cannot_be_read_needs_no_worker(rules: tuple[Rule, ...], folder: Path) -> None:
    told: list[str] = []
    tasks = [Task(Target("x", "no attribute", str(folder)), rules)]
    (report,) = pool.run(tasks, progress=lambda target, stage: told.append(stage))
    assert report.error is not None
    assert "names no attribute" in report.error.message
    assert told == []


def test_progress_hears_the_stages(rules: tuple[Rule, ...], folder: Path) -> None:
    told: list[tuple[str, str]] = []
    tasks = [Task(Target("x", "odd:healthy", str(folder)), rules)]
    pool.run(tasks, progress=lambda target, stage: told.append((target, stage)))
    assert told
    assert {target for target, _ in told} == {"x"}


def test_no_user_class_crosses(tmp_path: Path) -> None:
    """A report that holds a string of the user's own type arrives as plain text, read without their code."""
    (tmp_path / "names.py").write_text(
        textwrap.dedent("""
            import os
            import torch
            from torch import nn

            class Name(str):
                def __reduce__(self):
                    return os._exit, (7,)

            class Holder(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.register_buffer(Name("odd"), torch.empty(3))

            def build():
                return Holder()
        """)
    )
    rules = tuple(rule() for rule in registry.load().rules if rule.code == "IL301")
    (report,) = pool.run([Task(Target("x", "names:build", str(tmp_path)), rules)])
    assert report.status == "ok"
    assert [type(f.subject) for f in report.findings] == [str]
    assert [f.subject for f in report.findings] == ["odd"]


SCRIPT = """
import sys
from initlint.target import Target
from initlint.workers import Task, run

if __name__ == "__main__":
    run([Task(Target(name, f"waits:{name}", "."), ()) for name in ("first", "second")], jobs=2)
"""
WAITS = """
import os, subprocess, time
from torch import nn

def note(name):
    child = subprocess.Popen(["sleep", "3600"])
    with open(name + ".tmp", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename(name + ".tmp", name)
    time.sleep(3600)

def first():
    note("first.txt")

def second():
    note("second.txt")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(number: signal.Signals, tmp_path: Path) -> None:
    """Interrupted or killed, the parent leaves no worker, and no child of a worker, running."""
    (tmp_path / "main.py").write_text(SCRIPT)
    (tmp_path / "waits.py").write_text(WAITS)
    notes = [tmp_path / "first.txt", tmp_path / "second.txt"]
    parent = subprocess.Popen(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a caller may have it ignored
    )
    patience = time.monotonic() + 60
    while not all(note.exists() for note in notes) and time.monotonic() < patience:
        time.sleep(0.05)
    parent.send_signal(number)
    assert parent.wait(30) != 0
    for note in notes:
        for pid in map(int, note.read_text().split()):
            assert eventually_gone(pid)
