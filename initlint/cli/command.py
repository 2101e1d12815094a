"""The command line: from options to targets, reports and an exit status."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from initlint import __version__, registry
from initlint.cli import config
from initlint.cli.progress import Progress
from initlint.cli.tasks import TIMEOUT, Options, configuration_for, first, tasks
from initlint.errors import ConfigError, InitlintError
from initlint.report import FORMATS, ascii_only

if TYPE_CHECKING:
    from initlint.cli.config import Configuration
    from initlint.report import Report

FOUND, FAILED, INTERRUPTED = 1, 2, 130
SUFFIXES = {".json": "json", ".txt": "full"}


def _codes(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...] | None:
    """(A, B, C) of --select A,B --select C; None of a --select that was not given."""
    codes = tuple(code.strip() for value in values for code in value.split(",") if code.strip())
    if values and not codes:
        raise click.BadParameter("names no rule")
    return codes if codes or parameter.name != "select" else None


def _finite_seconds(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """The value; raises BadParameter for one that is no finite number."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("is not a number of seconds; 0 sets no limit")
    return value


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option(
    "--inputs", metavar="MODULE:ATTR", help="What the probe feeds the model: a value or a function."
)
@click.option("--input-shape", metavar="SHAPE", help="Shape of the model's input, as in 2,3,224,224.")
@click.option(
    "--loss", metavar="MODULE:ATTR", help="Loss of the backward; without it, fixed random gradients."
)
@click.option("--device", metavar="DEVICE", help="Where the probe runs.  [default: cpu]")
@click.option(
    "--dtype", type=click.Choice(config.DTYPES), help="Type the probe runs in; by default the model's."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", help="Seed of build and probe.  [default: 0]"
)
@click.option("--no-probe", is_flag=True, help="Judge by the values alone: no forward, no backward.")
@click.option("--select", multiple=True, callback=_codes, metavar="RULES", help="Run these rules only.")
@click.option("--extend-select", multiple=True, callback=_codes, metavar="RULES", help="Run these rules too.")
@click.option("--ignore", multiple=True, callback=_codes, metavar="RULES", help="Leave these rules out.")
@click.option(
    "--fail-on", type=click.Choice(config.FAIL_ON), help="Exit with 1 from here on.  [default: warning]"
)
@click.option("--format", type=click.Choice(list(FORMATS)), help="Of the report on stdout.  [default: table]")
@click.option(
    "-o", "--output", multiple=True, metavar="[FORMAT:]FILE", help="Write the report to a file too."
)
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), metavar="FILE",
    help="Read [tool.initlint] of this file.  [default: nearest pyproject.toml]",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="Targets linted at a time.  [default: 1]")
@click.option(
    "--timeout", type=click.FloatRange(0), callback=_finite_seconds, metavar="S",
    help=f"Seconds a target may take, 0: no limit.  [default: {TIMEOUT:g}]",
)  # fmt: skip
@click.option(
    "--explain",
    metavar="RULE",
    help="Say what a rule finds, why, and what to do; with -v, show its example models.",
)
@click.option("--list-rules", is_flag=True, help="List all rules.")
@click.option("-q", "--quiet", is_flag=True, help="Findings only.")
@click.option("-v", "--verbose", is_flag=True, help="Every parameter, timings, warnings and tracebacks.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Colours.  [default: auto]",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def command(**values: object) -> int:
    """Lint how PyTorch models are initialised.

    A TARGET is module:attr or path/to/file.py:attr. It names an nn.Module, a class or a function that
    returns one, and may be a call with literal arguments: 'timm:create_model("resnet18")'. Without a
    TARGET, all of [tool.initlint.targets] in pyproject.toml are linted; a name from there lints one.

    RULES are codes, prefixes of codes, names, or ALL, separated by commas.

    Exit status: 0 nothing found, 1 something found, 2 a target could not be linted, or wrong usage.
    """
    return _run(Options(**values))  # type: ignore[arg-type]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Exit status of the command line; errors are one sentence on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that has no √ shows a question mark
    try:
        return int(command.main(args=list(arguments), prog_name="initlint", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return FAILED
    except InitlintError as error:
        _say(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return INTERRUPTED
    except Exception as error:
        if "-v" in arguments or "--verbose" in arguments:
            sys.excepthook(type(error), error, error.__traceback__)
        _say(f"internal error: {type(error).__name__}: {error} (-v shows where)")
        return FAILED


def _open_streams() -> None:
    """Open the standard streams that the caller closed, so that no pipe to a worker takes their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _say(text: str) -> None:
    click.echo(f"initlint: {text}", err=True)


def _run(options: Options) -> int:
    if options.explain or options.list_rules:
        from initlint.report import rule_page, rule_table

        catalogue = registry.load()
        if options.explain:
            _print(rule_page(catalogue.find(options.explain), examples=options.verbose))
        else:
            _print(rule_table(catalogue.rules))
        return 0
    return _lint(options)


def _lint(options: Options) -> int:
    configuration = configuration_for(options)
    layout = options.format or configuration.format or "table"
    if layout not in FORMATS:
        where = configuration.origin("format")
        raise ConfigError(f"{where}: must be one of {', '.join(FORMATS)}, not {layout!r}")
    files = _outputs(options, configuration)
    work = tasks(options, configuration)
    progress = Progress(is_shown=sys.stderr.isatty() and not options.quiet)
    from initlint.report import Report, Tool
    from initlint.workers import run as lint

    try:
        targets = lint(
            work,
            jobs=options.jobs or configuration.jobs or 1,
            verbose=options.verbose,
            progress=progress.show,
        )
    finally:
        progress.clear()
    seed = first(options.seed, configuration.seed, default=0)
    report = Report(Tool.here(seed, options.device or configuration.device or "cpu"), targets)
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else None
    color = _has_color(options.color, is_terminal)
    _print(FORMATS[layout](report, width=width, color=color, verbose=options.verbose, quiet=options.quiet))
    _write(report, files, options)
    return _status(report, options.fail_on or configuration.fail_on or "warning")


def _status(report: Report, fail_on: str) -> int:
    if report.failed:
        return FAILED
    if fail_on == "never":
        return 0
    return FOUND if report.at_least(fail_on) else 0  # type: ignore[arg-type]


# ---------------------------------------------------------------- where the report goes
def _outputs(options: Options, configuration: Configuration) -> list[tuple[str, Path]]:
    """Format and file of every -o; files that cannot be written are errors before anything runs."""
    origin, base = configuration.origin("output"), configuration.folder
    if options.output:
        origin, base = "--output", Path.cwd()
    files = []
    for text in options.output or configuration.output:
        layout, colon, name = text.partition(":")
        if not colon or layout not in FORMATS:
            layout, name = SUFFIXES.get(Path(text).suffix.lower(), ""), text
        if layout not in FORMATS:
            raise ConfigError(f"{origin}: no format goes by the suffix of {text!r}; write FORMAT:{text}")
        path = base / name
        if not name or path.is_dir():
            raise ConfigError(f"{origin}: {text!r} names no file")
        if not path.parent.is_dir():
            raise ConfigError(f"{origin}: {path.parent} is not a folder")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise ConfigError(f"{origin}: {path} cannot be written")
        files.append((layout, path))
    return files


def _write(report: Report, files: Sequence[tuple[str, Path]], options: Options) -> None:
    for layout, path in files:
        text = FORMATS[layout](report, width=None, color=False, verbose=options.verbose, quiet=options.quiet)
        try:
            path.write_text(text, encoding="utf-8", errors="replace")
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _print(text: str) -> None:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = ascii_only(text)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        if not isinstance(error, BrokenPipeError):  # the reader (head, a pager) may go: the status stays
            raise InitlintError(f"the report cannot be written: {error.strerror}") from error


def _has_color(wish: str, is_terminal: bool) -> bool:
    """--color, then FORCE_COLOR, NO_COLOR and TERM=dumb, then whether it is a terminal."""
    if wish != "auto":
        return wish == "always"
    if os.environ.get("FORCE_COLOR"):
        return True
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return is_terminal
