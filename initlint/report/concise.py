"""One line a finding, for editors and grep: file:line:col: CODE severity message [subject]."""

from __future__ import annotations

from initlint.finding import Finding
from initlint.report.records import Report, TargetReport
from initlint.report.summary import closing_line, folded_names, visible_findings
from initlint.report.text import View, escape, relative, sentence


def render(
    report: Report, *, width: int | None, color: bool, verbose: bool = False, quiet: bool = False
) -> str:
    """The report as lines that are never wrapped; where no file is known the target's name stands."""
    view = View(None, color, verbose, quiet)
    lines = [line for target in report.targets for line in _lines(target, view)]
    if not quiet:
        lines += closing_line(report, view)
    return "".join(line + "\n" for line in lines)


def _lines(target: TargetReport, view: View) -> list[str]:
    lines = []
    if target.error is not None:
        error = target.error
        place = _place(target, error.file, error.line)
        message = f"the {error.stage} failed: {escape(error.type)}: {sentence(error.message)}"
        lines.append(f"{place}: {view.paint('error', 'error')} {message} [{escape(target.target)}]")
    return lines + [_line(finding, target, view) for finding in visible_findings(target, view)]


def _line(finding: Finding, target: TargetReport, view: View) -> str:
    site = finding.site
    place = _place(target, *((site.file, site.line) if site is not None else (None, None)))
    code = view.paint(escape(finding.code), "bold")
    severity = view.paint(finding.severity, finding.severity)
    names = ", ".join(folded_names(finding, view))
    ignored = "" if finding.suppressed is None else f" (suppressed: {sentence(finding.suppressed)})"
    return f"{place}: {code} {severity} {sentence(finding.message)}{ignored} [{names}]"


def _place(target: TargetReport, file: str | None, line: int | None) -> str:
    return escape(target.target) if file is None else f"{escape(relative(file))}:{line or 1}:1"
