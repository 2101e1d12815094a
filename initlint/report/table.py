"""The default: findings as a table for each target, what is wrong and what to do under each row."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tabulate import tabulate

from initlint.finding import Finding
from initlint.report.records import Report, TargetReport
from initlint.report.summary import (
    block,
    closing_line,
    explain_hint,
    folded_names,
    versions,
    visible_findings,
)
from initlint.report.text import View, escape, figure, place, sentence

HEADERS = ("finding", "where", "figure", "measured", "expected")
NARROWEST = 20  #: columns that names keep however narrow the terminal is
CONSEQUENCES = 4  #: consequences that are spelled out under their cause; the rest is counted
WIDEST = 18  #: columns that a figure and its values take before they wrap


def render(
    report: Report, *, width: int | None, color: bool, verbose: bool = False, quiet: bool = False
) -> str:
    """The report as tables; names that differ in indices only are folded."""
    view = View(width, color, verbose, quiet)
    lines = [*versions(report), ""] if verbose else []
    for target in report.targets:
        lines += _block(target, view)
    if not quiet:
        lines += [*explain_hint(report, view), *closing_line(report, view)]
    return "".join(line.rstrip() + "\n" for line in lines)


def _block(target: TargetReport, view: View) -> list[str]:
    findings = visible_findings(target, view)
    return block(target, ["", *_table(findings, view)] if findings else [], view)


def _table(findings: list[Finding], view: View) -> list[str]:
    """Aligned rows, each followed by lines that run over the whole width."""
    rows = _rows(findings, view)
    text = tabulate(rows, headers=HEADERS, tablefmt="plain", disable_numparse=True).split("\n")
    lines, start = [view.paint(text[0], "dim")], 1
    for finding, row in zip(findings, rows, strict=True):
        end = start + max(cell.count("\n") for cell in row) + 1
        lines += [*text[start:end], *_explanation(finding, view), ""]
        start = end
    return lines[:-1]


def _rows(findings: list[Finding], view: View) -> list[list[str]]:
    values = [_columns(figures(finding), None if view.width is None else WIDEST) for finding in findings]
    limit = None
    if view.width is not None:
        titles = (HEADERS[0], *(f"{f.severity} {f.code}\n{f.rule}" for f in findings))
        columns = (titles, *zip(HEADERS[2:], *values, strict=True))
        taken = sum(max(len(line) for cell in column for line in cell.split("\n")) for column in columns)
        limit = max(NARROWEST, view.width - taken - 2 * (len(HEADERS) - 1))
    return [
        [f"{view.marker(finding)}\n{escape(finding.rule)}", _names_and_place(finding, limit, view), *row]
        for finding, row in zip(findings, values, strict=True)
    ]


def _names_and_place(finding: Finding, limit: int | None, view: View) -> str:
    lines = folded_names(finding, view) + ([place(finding.site)] if finding.site is not None else [])
    return "\n".join(part for line in lines for part in _cell_lines(line, limit))


def figures(finding: Finding) -> list[tuple[str, str, str]]:
    """Name, measured and expected value of every figure; "" where there is none."""
    names = dict.fromkeys((*finding.measured, *finding.expected))
    return [
        (
            sentence(name),
            figure(finding.measured[name]) if name in finding.measured else "",
            figure(finding.expected[name]) if name in finding.expected else "",
        )
        for name in names
    ]


def _columns(table: list[tuple[str, str, str]], limit: int | None) -> list[str]:
    """Three cells with one line for each figure, more where one wraps."""
    columns: tuple[list[str], ...] = ([], [], [])
    for texts in table:
        cells = [_cell_lines(text or "-", limit) for text in texts]
        height = max(map(len, cells))
        for column, lines in zip(columns, cells, strict=True):
            column += lines + [""] * (height - len(lines))
    return ["\n".join(column) for column in columns]


def _cell_lines(text: str, limit: int | None) -> list[str]:
    """A name, path or value on lines of at most `limit` columns, broken after a dot, slash or space."""
    if limit is None or len(text) <= limit:
        return [text]
    lines = [""]
    for part in re.findall(r"[^./\\ ]*[./\\ ]|[^./\\ ]+", text):
        for piece in (part[i : i + limit] for i in range(0, len(part), limit)):
            if len(lines[-1]) + len(piece.rstrip()) > limit:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


def _explanation(finding: Finding, view: View) -> Iterator[str]:
    """What is wrong, what to do, and what follows from it."""
    yield from view.fill(sentence(finding.message), "  ", hang="")
    if finding.help:
        yield from view.fill(f"help: {sentence(finding.help)}", "  ")
    if finding.suppressed is not None:
        yield from view.fill(f"suppressed: {sentence(finding.suppressed)}", "  ")
    shown = finding.consequences if view.verbose else finding.consequences[:CONSEQUENCES]
    for consequence in shown:
        names = ", ".join(folded_names(consequence, view))
        title = f" {escape(consequence.code)} {escape(consequence.rule)} follows in {names}: "
        yield from view.fill(
            title + sentence(consequence.message), "  ", head=consequence.severity, style=consequence.severity
        )
    if left_out := len(finding.consequences) - len(shown):
        yield f"  and {left_out} more that follow"
