"""What the formats for people say about a target and about the whole run."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from initlint.finding import SEVERITIES, Finding
from initlint.report.folding import expand, fold
from initlint.report.listing import listing
from initlint.report.records import Report, TargetReport
from initlint.report.text import View, count, escape, name_list, relative, sentence, size
from initlint.rule import subjects

SHOWN_NAMES = 3  #: patterns of names that one finding spells out; the rest is counted
LONGEST_MESSAGE = 600  #: characters of an exception's message; a wrong state dict prints thousands


def block(target: TargetReport, findings: list[str], view: View) -> list[str]:
    """Lines all about one target, of which `findings` are those about its findings; none if all is quiet."""
    lines = [*failure(target, view), *findings]
    if view.quiet:
        return [*heading(target, view), *lines, ""] if lines else []
    if not lines:
        lines = ["  no findings"]
    if view.verbose and target.tensors:
        lines += ["", *listing(target.tensors, view)]
    if target.not_run:
        lines += ["", *not_run(target, view)]
    return [*heading(target, view), *lines, ""]


def heading(target: TargetReport, view: View) -> list[str]:
    """The target, its model, and what the probe was fed; nothing for one that could not be built."""
    model = target.model
    if model is None:
        return []
    tensors = f"{count(model.parameters, 'parameter tensor')}, {count(model.elements, 'value')}"
    about = f" ({escape(model.class_name)}, {tensors}, {size(model.bytes)})"
    lines = view.fill(about, head=escape(target.target))
    if target.inputs_text:
        title = "" if target.inputs == "none" else "probe input: "
        lines += view.fill(title + sentence(target.inputs_text), "  ")
    if view.verbose and target.seconds:
        lines.append("  seconds: " + ", ".join(f"{k} {v:.3g}" for k, v in target.seconds.items()))
    return lines


def failure(target: TargetReport, view: View) -> list[str]:
    """Why the target could not be linted to the end, as one sentence."""
    error = target.error
    if error is None:
        return []
    message = sentence(error.message)
    if len(message) > LONGEST_MESSAGE and not view.verbose:
        message = message[:LONGEST_MESSAGE] + "…"
    where = ""
    if error.file is not None:
        where = f" ({escape(relative(error.file))}{'' if error.line is None else f':{error.line}'})"
    text = f" {escape(target.target)}: the {error.stage} failed: {escape(error.type)}: {message}{where}"
    return view.fill(text, head="error", style="error")


def not_run(target: TargetReport, view: View) -> list[str]:
    """Rules that did not run, by reason; the message of the target's failure is not said twice."""
    repeated = f": {target.error.message}" if target.error is not None else ""
    reasons: dict[str, list[str]] = {}
    for skipped in target.not_run:
        reasons.setdefault(skipped.reason.removesuffix(repeated), []).append(skipped.rule)
    return [
        line
        for reason, rules in reasons.items()
        for line in view.fill(
            f"{count(len(rules), 'rule')} not run: {sentence(reason)}"
            f" ({name_list(map(escape, rules), None if view.verbose else 5)})"
        )
    ]


def visible_findings(target: TargetReport, view: View) -> list[Finding]:
    """Findings to show, by severity, code, and order of construction; suppressed ones when asked for more."""
    shown = [f for f in target.findings if f.suppressed is None or view.verbose]
    return sorted(shown, key=lambda f: (-SEVERITIES.index(f.severity), f.code))


def folded_names(finding: Finding, view: View) -> list[str]:
    """Subject and related names, folded; beyond a few the names are counted."""
    patterns = fold(dict.fromkeys(subjects(finding)))
    shown = patterns if view.verbose or len(patterns) <= SHOWN_NAMES else patterns[:SHOWN_NAMES]
    left_out = sum(len(expand(pattern)) for pattern in patterns[len(shown) :])
    lines = [escape(pattern) if pattern else "the whole model" for pattern in shown]
    return [*lines, f"and {left_out} more"] if left_out else lines


def closing_line(report: Report, view: View) -> list[str]:
    """The last line: what was done, and what came of it."""
    targets = report.targets
    parameters = sum(t.model.parameters for t in targets if t.model is not None)
    done = ", ".join([
        count(len(targets), "target"),
        count(parameters, "parameter tensor"),
        _rules(targets),
    ])  # fmt: skip
    seconds = sum(sum(t.seconds.values()) for t in targets)
    return view.fill(f" {done} in {seconds:.3g} seconds: {_result(report)}", hang="", head="Checked")


def versions(report: Report) -> list[str]:
    """Versions and settings that the figures depend on."""
    tool = report.tool
    programs = f"initlint {tool.version}, torch {tool.torch}, Python {tool.python}"
    return [f"{programs}, seed {tool.seed}, device {tool.device}"]


def explain_hint(report: Report, view: View) -> list[str]:
    """Where to read on."""
    codes = (f.code for target in report.targets for f in visible_findings(target, view))
    return [view.paint(f"More about a rule: initlint --explain {escape(c)}", "dim") for c in islice(codes, 1)]


def _rules(targets: Iterable[TargetReport]) -> str:
    """Rules that ran, of those that were asked to, over targets that got that far."""
    run = [t.rules_run for t in targets if t.rules_run or t.not_run]
    selected = [t.rules_run + len(t.not_run) for t in targets if t.rules_run or t.not_run]
    if not any(run):
        return "no rules"
    ran = str(min(run)) if min(run) == max(run) else f"{min(run)} to {max(run)}"
    return f"{ran} of {count(max(selected), 'rule')}" if min(run) < max(selected) else count(max(run), "rule")


def _result(report: Report) -> str:
    suppressed = sum(f.suppressed is not None for t in report.targets for f in t.findings)
    failed = sum(target.status == "error" for target in report.targets)
    counts = [f"{count(failed, 'target')} failed"] if failed else []
    counts += [count(n, s) for s in reversed(SEVERITIES) if (n := report.count(s))]
    if suppressed:
        counts.append(f"{suppressed} suppressed")
    if counts:
        return ", ".join(counts)
    checked = any(t.rules_run for t in report.targets)
    return "nothing found" if checked else "nothing was checked"
