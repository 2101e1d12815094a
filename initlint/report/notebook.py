"""The report as a small table for notebooks."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader

from initlint.report.records import Report
from initlint.report.summary import closing_line, failure, folded_names, heading, not_run, visible_findings
from initlint.report.table import figures
from initlint.report.text import View, place


def render(
    report: Report, *, width: int | None, color: bool, verbose: bool = False, quiet: bool = False
) -> str:
    """The report as HTML."""
    view = View(width=None)
    environment = Environment(loader=PackageLoader("initlint", "report"), autoescape=True)
    parts = (heading, failure, visible_findings, not_run)
    return environment.get_template("notebook.html.jinja").render(
        targets=[tuple(part(target, view) for part in parts) for target in report.targets],
        names=lambda finding: folded_names(finding, view),
        figures=figures,
        place=place,
        closing="".join(closing_line(report, view)),
    )
