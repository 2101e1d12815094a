"""The command line as a whole: what it prints where, and the exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from initlint import __version__, registry
from initlint.cli.command import run
from initlint.report import FORMATS

MODELS = """\
import os

import torch
from torch import nn

example_inputs = torch.ones(2, 4)


def healthy():
    return nn.Linear(4, 2)


def broken(bias=True):
    model = nn.Linear(4, 2, bias=bias)
    model.weight = nn.Parameter(torch.empty(2, 4))  # unwritten
    return model


def noted():
    model = nn.Sequential(nn.Linear(4, 2))
    model.register_parameter("spare", nn.Parameter(torch.ones(3)))
    return model


def prints():
    print("printed by python")
    os.system("echo printed by a child")
    return nn.Linear(4, 2)


def raises():
    raise ValueError("too narrow")  # raised


def batch():
    return (torch.ones(3, 4),)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path


def lint(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(arguments)
    said = capsys.readouterr()
    return status, said.out, said.err


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    status, out, _ = lint(capsys, *arguments, "--format", "json")
    report = json.loads(out)
    assert isinstance(report, dict)
    return status, report


def configure(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(text)


# ---------------------------------------------------------------- without a model


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(capsys, "--version") == (0, f"initlint {__version__}\n", "")
    for flag in ("--help", "-h"):
        status, out, err = lint(capsys, flag)
        assert (status, err) == (0, "")
        assert out.startswith("Usage: initlint [OPTIONS] [TARGET]...\n")
        for name in FORMATS:
            assert name in out


def test_list_rules(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = lint(capsys, "--list-rules")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    rules = registry.load().rules
    assert len(lines) == len(rules) + 2
    for rule, line in zip(rules, lines[2:], strict=True):
        assert [cell.strip() for cell in line.split("|")[1:4]] == [rule.code, rule.name, rule.severity]


def test_explain_by_code_and_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    status, by_code, err = lint(capsys, "--explain", "IL301")
    assert (status, err) == (0, "")
    assert by_code.startswith("# IL301 uninitialized-memory\n")
    assert lint(capsys, "--explain", "uninitialized-memory") == (0, by_code, "")
    assert "## Found" not in by_code
    assert "## Found" in lint(capsys, "--explain", "IL301", "-v")[1]
    status, out, err = lint(capsys, "--explain", "uninitialised-memory")
    assert (status, out) == (2, "")
    assert err == "initlint: unknown rule 'uninitialised-memory'; did you mean uninitialized-memory?\n"


def test_nothing_to_lint(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = lint(capsys)
    assert (status, out) == (2, "")
    assert err.startswith("initlint: nothing to lint: name a target, or configure some.\n")
    assert "initlint mymodel:build" in err
    assert "[tool.initlint.targets.mymodel]" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--formt", "json"], "No such option"),
        (["--format", "yaml"], "'yaml' is not one of"),
        (["--jobs", "0"], "0 is not in the range"),
        (["--seed", "x"], "'x' is not a valid integer"),
        (["--timeout", "nan"], "not a number of seconds"),
        (["--timeout", "inf"], "not a number of seconds"),
        (["--select", ","], "names no rule"),
        (["--fail-on", "warn"], "'warn' is not one of"),
        (["--dtype", "int8"], "'int8' is not one of"),
        (["--inputs", "m:i", "--input-shape", "2,3", "m:b"], "--inputs and --input-shape exclude each other"),
        (["--config", "none.toml", "m:b"], "none.toml: cannot be read"),
        (["--select", "IL999", "m:b"], "--select: unknown rule 'IL999'"),
        (["--ignore", "constant-wight", "m:b"], "did you mean constant-weight?"),
        (["-o", "report.what", "m:b"], "no format goes by the suffix of 'report.what'"),
        (["-o", "nowhere/report.json", "m:b"], "nowhere is not a folder"),
        (["-o", "json:", "m:b"], "names no file"),
        (["-o", "json:.", "m:b"], "names no file"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = lint(capsys, *arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


# ---------------------------------------------------------------- exit status


def test_clean(capsys: pytest.CaptureFixture[str]) -> None:
    status, report = document(capsys, "models:healthy")
    assert status == 0
    summary = {"targets": 1, "errors": 0, "warnings": 0, "notes": 0, "suppressed": 0}
    assert report["summary"].items() >= summary.items()


def test_found(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = lint(capsys, "models:broken", "--format", "concise")
    assert status == 1
    line = MODELS.splitlines().index("    model.weight = nn.Parameter(torch.empty(2, 4))  # unwritten") + 1
    assert out.startswith(f"models.py:{line}:")
    assert "IL301" in out


def test_failed_targets_win_and_the_others_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    status, report = document(
        capsys, "models:raises", "models:broken(bias=False)", "models:nope", "models:healthy"
    )
    assert status == 2
    targets = report["targets"]
    assert [t["target"] for t in targets] == [
        "models:raises",
        "models:broken(bias=False)",
        "models:nope",
        "models:healthy",
    ]
    assert [t["status"] for t in targets] == ["error", "ok", "error", "ok"]
    raised, missing = targets[0]["error"], targets[2]["error"]
    assert (raised["stage"], raised["type"], raised["message"]) == ("build", "ValueError", "too narrow")
    line = MODELS.splitlines().index('    raise ValueError("too narrow")  # raised') + 1
    assert (raised["file"], raised["line"]) == ("models.py", line)
    assert (missing["stage"], missing["type"]) == ("import", "AttributeError")
    assert [f["code"] for f in targets[1]["findings"]] == ["IL301"]


def test_fail_on(capsys: pytest.CaptureFixture[str]) -> None:
    select = ["--select", "IL301,IL409", "--format", "concise"]
    assert lint(capsys, "models:noted", *select)[0] == 1  # a warning
    assert lint(capsys, "models:noted", *select, "--fail-on", "error")[0] == 0
    assert lint(capsys, "models:noted", *select, "--fail-on", "note")[0] == 1
    assert lint(capsys, "models:broken", *select, "--fail-on", "never")[0] == 0
    assert lint(capsys, "models:raises", *select, "--fail-on", "never")[0] == 2


def test_selection(capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(capsys, "models:broken", "--ignore", "IL3,IL4")[0] == 0
    assert lint(capsys, "models:broken", "--select", "IL1")[0] == 0
    assert lint(capsys, "models:broken", "--select", "IL1", "--extend-select", "uninitialized-memory")[0] == 1


# ---------------------------------------------------------------- configuration


def test_configured_targets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(
        folder,
        """
        [tool.initlint]
        seed = 5
        select = ["IL3"]
        [tool.initlint.targets.good]
        model = "models:healthy"
        [tool.initlint.targets."bad one"]
        model = "models.py:broken"
        inputs = "models:batch"
        [tool.initlint.rules.IL301]
        severity = "note"
        """,
    )
    status, report = document(capsys)
    assert status == 0
    assert [(t["target"], len(t["findings"])) for t in report["targets"]] == [("good", 0), ("bad one", 1)]
    assert report["targets"][1]["findings"][0]["severity"] == "note"
    assert report["tool"]["seed"] == 5
    assert lint(capsys, "--fail-on", "note")[0] == 1
    status, report = document(capsys, "good", "--select", "ALL")
    assert [t["target"] for t in report["targets"]] == ["good"]
    status, out, err = lint(capsys, "goood")
    assert (status, out) == (2, "")
    assert err == "initlint: 'goood' is neither module:attr nor a configured target; did you mean good?\n"


def test_configuration_of_a_folder_above(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Modules and files of configured targets are found from the folder of the file."""
    configure(folder, '[tool.initlint.targets]\na.model = "models:healthy"\nb.model = "models.py:healthy"\n')
    (folder / "deep").mkdir()
    monkeypatch.chdir(folder / "deep")
    assert lint(capsys)[0] == 0


def test_configuration_elsewhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a named file speaks of is in the working directory; beside it there may be anything."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "models.py").write_text("raise SystemExit('not these models')\n")
    settings = elsewhere / "settings.toml"
    settings.write_text(
        '[tool.initlint.targets]\na.model = "models:healthy"\nb.model = "models.py:healthy"\n'
    )
    status, report = document(capsys, "--config", str(settings), "--select", "IL1,IL3")
    assert status == 0
    assert [t["status"] for t in report["targets"]] == ["ok", "ok"]


def test_errors_of_the_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, says in (
        (
            '[tool.initlint]\nselect = ["IL999"]\n',
            "pyproject.toml: tool.initlint.select: unknown rule 'IL999'",
        ),
        ("[tool.initlint.rules.constant-wight]\n", "pyproject.toml: tool.initlint.rules: unknown rule"),
        ("[tool.initlint.rules.IL301]\nratio = 1\n", "has no option 'ratio'"),
        ("[tool.initlint.rules]\nIL301 = {}\nuninitialized-memory = {}\n", "has two tables"),
        ('[tool.initlint]\nformat = "yaml"\n', "pyproject.toml: tool.initlint.format: must be one of"),
        ('[tool.initlint]\noutput = ["x.what"]\n', "pyproject.toml: tool.initlint.output: no format"),
        ("[tool.initlint]\nfial-on = 1\n", "did you mean fail-on?"),
    ):
        configure(folder, text)
        status, out, err = lint(capsys, "models:healthy")
        assert (status, out) == (2, "")
        assert says in err


# ---------------------------------------------------------------- where things are written


def test_outputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = lint(
        capsys, "models:broken", "-o", "report.json", "-o", "concise:findings", "--format", "json"
    )
    assert status == 1
    assert (folder / "report.json").read_text() == out
    assert "IL301" in (folder / "findings").read_text()


def test_stdout_is_the_report_and_nothing_else() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "initlint", "models:prints", "--format", "json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["targets"][0]["target"] == "models:prints"
    assert "printed by python" in done.stderr
    assert "printed by a child" in done.stderr


def test_a_reader_that_goes_away() -> None:
    """The exit status still says what was found, and nobody complains about the pipe."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "initlint", "models:broken"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    command = f"exec {sys.executable} -m initlint models:prints -o report.json {closed}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0
    assert json.loads(Path("report.json").read_text())["targets"][0]["status"] == "ok"
    assert ("no findings" in done.stdout) == (">&-" not in closed.split())
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "initlint", "--list-rules"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "initlint: the report cannot be written: No space left on device\n"


def test_a_terminal_without_unicode() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "initlint", "models:broken", "-v"], capture_output=True, env=environment
    )
    assert done.returncode == 1
    assert b"IL301" in done.stdout
    assert done.stdout.isascii()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "variables", "colored"),
    [
        ("auto", {}, False),
        ("always", {}, True),
        ("auto", {"FORCE_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
        ("always", {"NO_COLOR": "1"}, True),
    ],
)
def test_color(
    option: str,
    variables: dict[str, str],
    colored: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    _, out, _ = lint(capsys, "models:nope", "--color", option)
    assert ("\x1b[" in out) == colored


# ---------------------------------------------------------------- targets given on the command line


def test_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--inputs", "models:batch"], ["--input-shape", "3,4"]):
        status, report = document(capsys, "models:healthy", *arguments)
        assert status == 0
        assert report["targets"][0]["inputs"] == "given"
    status, report = document(capsys, "models:healthy", "--inputs", "models:bach")
    assert status == 2
    error = report["targets"][0]["error"]
    assert error["stage"] == "inputs"
    assert "did you mean batch?" in error["message"]


def test_no_probe(capsys: pytest.CaptureFixture[str]) -> None:
    status, report = document(capsys, "models:healthy", "--no-probe")
    assert status == 0
    reasons = {rule["reason"] for rule in report["targets"][0]["not_run"]}
    assert reasons == {"no probe: --no-probe was given"}


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    status, report = document(capsys, "models:healthy", "--device", "nonsense")
    assert status == 2
    error = report["targets"][0]["error"]
    assert "the device 'nonsense' cannot be used" in error["message"]


def test_a_file_in_the_folder_named_like_a_library_module(folder: Path) -> None:
    """random.py beside the model is the user's own affair; torch gets Python's."""
    (folder / "random.py").write_text("raise SystemExit('this is not the library')\n")
    done = subprocess.run(
        ["initlint", "models:healthy"],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupted(folder: Path) -> None:
    """Ctrl-C reaches the whole group, as from a terminal: one line, status 130, nothing left running."""
    (folder / "slow.py").write_text(
        "import os, time\n\ndef build():\n"
        "    os.replace(open('pid', 'w').name, 'started')\n    time.sleep(3600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "initlint", "slow:build"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a caller may have it ignored
    )
    patience = time.monotonic() + 60
    while not (folder / "started").exists() and time.monotonic() < patience:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (130, "", "initlint: interrupted")


def test_progress_is_for_terminals(folder: Path) -> None:
    """On a terminal a line says what is being done, and is wiped before the report."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    (folder / "slow.py").write_text(
        "import time\nfrom torch import nn\n\ndef build():\n    time.sleep(1.2)\n    return nn.Linear(2, 2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "initlint", "slow:build"], stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "\rslow:build: " in said
    assert said.endswith("\r")
    assert "\r" not in done.stdout


def test_a_rule_that_raises(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails the target, with the rule's own line, and does not pass for a clean run."""
    (folder / "odd_rules.py").write_text(
        "from initlint import Rule\n\n\nclass Odd(Rule):\n"
        '    """Raises."""\n\n    code, name, severity, examples = "MY1", "odd", "error", ()\n\n'
        "    def check(self, model):\n        yield 1 / 0\n"
    )
    metadata = folder / "odd_rules-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-rules\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[initlint.rules]\nmine = odd_rules\n")
    monkeypatch.syspath_prepend(folder)
    status, report = document(capsys, "models:healthy", "--select", "MY1")
    assert status == 2
    error = report["targets"][0]["error"]
    assert (error["stage"], error["type"]) == ("rules", "ZeroDivisionError")
    assert (error["file"], error["line"]) == ("odd_rules.py", 10)
    not_run = {"rule": "odd", "reason": "ZeroDivisionError at odd_rules.py:10: division by zero"}
    assert report["targets"][0]["not_run"] == [not_run]
    status, report = document(capsys, "models:broken", "--select", "MY1,IL301")
    assert status == 2
    assert [finding["code"] for finding in report["targets"][0]["findings"]] == ["IL301"]
    del sys.modules["odd_rules"]
