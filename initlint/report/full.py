"""Every finding with its source lines, further places, help and suggested code."""

from __future__ import annotations

import linecache
from collections.abc import Iterator

from initlint.finding import Finding, Site
from initlint.report.records import Report, TargetReport
from initlint.report.summary import block, closing_line, folded_names, versions, visible_findings
from initlint.report.table import figures
from initlint.report.text import View, escape, place, sentence

CONTEXT = 2  #: lines shown before the line of a finding


def render(
    report: Report, *, width: int | None, color: bool, verbose: bool = False, quiet: bool = False
) -> str:
    """The report finding by finding."""
    view = View(width, color, verbose, quiet)
    lines = [] if quiet else [*versions(report), ""]
    for target in report.targets:
        lines += _block(target, view)
    if not quiet:
        lines += closing_line(report, view)
    return "".join(line.rstrip() + "\n" for line in lines)


def _block(target: TargetReport, view: View) -> list[str]:
    lines = [line for finding in visible_findings(target, view) for line in ("", *_finding(finding, view))]
    return block(target, lines, view)


def _finding(finding: Finding, view: View) -> Iterator[str]:
    title = f" {escape(finding.code)} {escape(finding.rule)}: {', '.join(folded_names(finding, view))}"
    yield from view.fill(title, head=finding.severity, style=finding.severity)
    yield from view.fill(sentence(finding.message), "  ", hang="")
    if finding.site is not None:
        yield from _source_lines(finding.site, "", CONTEXT, view)
    for location in finding.locations:
        yield from _source_lines(location.site, location.what, 0, view)
    for name, *values in figures(finding):
        texts = (
            f"{value} {what}" for value, what in zip(values, ("measured", "expected"), strict=True) if value
        )
        yield from view.fill(f"{name}: {', '.join(texts)}", "  ")
    if finding.help:
        yield from view.fill(f"help: {sentence(finding.help)}", "  ")
    yield from _suggestion(finding, view)
    if finding.suppressed is not None:
        yield from view.fill(f"suppressed: {sentence(finding.suppressed)}", "  ")
    for consequence in finding.consequences:
        yield "  from this follows"
        for line in _finding(consequence, _narrower_view(view)):
            yield "    " + line
    yield f"  more: initlint --explain {escape(finding.code)}"


def _source_lines(site: Site, what: str, context: int, view: View) -> Iterator[str]:
    """The place, and the line itself where it can be read, marked."""
    function = f" in {escape(site.function)}" if site.function else ""
    yield f"  {view.paint(place(site), 'bold')}{function}" + (f": {sentence(what)}" if what else "")
    if not linecache.getline(site.file, site.line).strip():
        return
    for number in range(max(1, site.line - context), site.line + 1):
        mark = ">" if number == site.line else " "
        line = linecache.getline(site.file, number).rstrip().expandtabs(4)
        yield f"  {mark} {number:>5} | {escape(line)}"


def _suggestion(finding: Finding, view: View) -> Iterator[str]:
    suggestion = finding.suggestion
    if suggestion is None:
        return
    status = "verified by a second probe" if suggestion.verified else "not verified"
    yield from view.fill(f"suggestion ({status}): {sentence(suggestion.effect)}", "  ")
    for line in suggestion.code.splitlines():
        yield "      " + escape(line)


def _narrower_view(view: View) -> View:
    return View(None if view.width is None else view.width - 4, view.color, view.verbose, view.quiet)
