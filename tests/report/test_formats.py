from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample import GOLDEN, REPORT

from initlint.finding import Finding, Site
from initlint.report import FORMATS
from initlint.report.folding import expand, fold
from initlint.report.json import document
from initlint.report.records import Failure, NotRun, Report, TargetReport, Tool
from initlint.report.text import ascii_only, escape, figure, size

SCHEMA = json.loads(files("initlint.report").joinpath("schema.json").read_text())
VIEWS: dict[str, tuple[str, dict[str, object]]] = {
    "table-80.txt": ("table", {"width": 80}),
    "table-120.txt": ("table", {"width": 120}),
    "table.txt": ("table", {"width": None}),
    "table-color.txt": ("table", {"width": 100, "color": True}),
    "table-verbose.txt": ("table", {"width": None, "verbose": True}),
    "table-quiet.txt": ("table", {"width": 100, "quiet": True}),
    "full.txt": ("full", {"width": 100}),
    "concise.txt": ("concise", {"width": 80}),
    "report.json": ("json", {"width": 80}),
}
TOOL = Tool(version="0", torch="2", python="3", seed=0, device="cpu")
TERMINAL = ("table", "full", "concise")


def render(name: str, report: Report, **options: object) -> str:
    return FORMATS[name](report, **{"width": None, "color": False, **options})  # type: ignore[arg-type]


def one(*findings: Finding, **fields: object) -> Report:
    return Report(TOOL, (TargetReport("m:f", findings=findings, rules_run=3, **fields),))  # type: ignore[arg-type]


def finding(**fields: object) -> Finding:
    base = Finding("IL101", "constant-weight", "error", "fc.weight", "every value is 0")
    return replace(base, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("file", VIEWS)
def test_golden(file: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    name, options = VIEWS[file]
    text = render(name, REPORT, **options)
    path = GOLDEN / file
    if request.config.getoption("--refresh-golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["table", "full"])
def test_lines_keep_to_the_width(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    quoted = re.compile(r" {6,}[^ ]|  [> ] +\d+ \|")  # code stands as it is
    lines = [line for line in render(name, REPORT, width=width).splitlines() if not quoted.match(line)]
    assert max(map(len, lines)) <= width


def test_colour_adds_nothing_but_escapes() -> None:
    for name in TERMINAL:
        colored = render(name, REPORT, width=90, color=True)
        assert colored != render(name, REPORT, width=90)
        assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == render(name, REPORT, width=90)


def test_paths_outside_the_working_directory_stay_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    here, elsewhere = Site(str(GOLDEN / "mymodel.py"), 3), Site("/elsewhere/mymodel.py", 4)
    package = Site("/env/lib/python3.11/site-packages/timm/models/vit.py", 5, package="timm")
    monkeypatch.chdir(GOLDEN)
    report = one(*(finding(site=site) for site in (here, elsewhere, package)))
    assert [f["file"] for f in document(report)["targets"][0]["findings"]] == [
        "mymodel.py",
        "/elsewhere/mymodel.py",
        "/env/lib/python3.11/site-packages/timm/models/vit.py",
    ]
    table = render("table", report)
    assert all(
        place in table
        for place in (" mymodel.py:3\n", " /elsewhere/mymodel.py:4\n", " timm/models/vit.py:5\n")
    )


# ---------------------------------------------------------------- what the last line says


def test_clean_run_says_what_was_checked() -> None:
    last = render("table", one()).splitlines()[-1]
    assert last == "Checked 1 target, 0 parameter tensors, 3 rules in 0 seconds: nothing found"


def test_run_without_rules_does_not_read_as_clean() -> None:
    report = Report(TOOL, (TargetReport("m:f", not_run=(NotRun("dead-units", "no probe"),)),))
    assert render("table", report).splitlines()[-1].endswith("nothing was checked")
    assert render("concise", report).splitlines()[-1].endswith("nothing was checked")


def test_no_targets() -> None:
    for name in FORMATS:
        assert "nothing was checked" in render(name, Report(TOOL, ())) or name == "json"
    jsonschema.validate(document(Report(TOOL, ())), SCHEMA)


def test_quiet_and_clean_is_empty() -> None:
    for name in TERMINAL:
        assert render(name, one(), quiet=True) == ""


def test_rules_that_did_not_run_are_folded_by_reason() -> None:
    skipped = tuple(NotRun(f"rule-{i}", "no probe: nothing fits") for i in range(9))
    text = render("table", one(not_run=(*skipped, NotRun("other", "no graph"))))
    assert (
        "9 rules not run: no probe: nothing fits (rule-0, rule-1, rule-2, rule-3, rule-4 and 4 more)" in text
    )
    assert "1 rule not run: no graph (other)" in text


def test_suppressed_findings_are_counted_and_shown_on_request() -> None:
    report = one(finding(suppressed="baseline"))
    for name in TERMINAL:
        assert "every value is 0" not in render(name, report)
        assert "suppressed: baseline" in render(name, report, verbose=True)
        assert "1 suppressed" in render(name, report)


def test_findings_are_ordered_by_severity_then_code() -> None:
    codes = [
        ("IL409", "warning"),
        ("IL110", "note"),
        ("IL301", "error"),
        ("IL101", "error"),
        ("IL203", "warning"),
    ]
    text = render("concise", one(*(finding(code=c, severity=s) for c, s in codes)), quiet=True)
    assert re.findall(r"IL\d+", text) == ["IL101", "IL301", "IL203", "IL409", "IL110"]


def test_related_names_are_counted_and_shown_on_request() -> None:
    names = tuple(f"{letter}.weight" for letter in "abcdefg")
    assert "and 4 more" in render("table", one(finding(subject="fc.weight", related=names[:6])))
    assert "and" not in render("concise", one(finding(related=names)), verbose=True, quiet=True)


def test_consequences_are_counted_and_shown_on_request() -> None:
    cause = finding(consequences=tuple(finding(rule=f"rule-{i}") for i in range(9)))
    assert "and 5 more that follow" in render("table", one(cause))
    assert "rule-8 follows in fc.weight" in render("table", one(cause), verbose=True)


# ---------------------------------------------------------------- hostile and odd text

HOSTILE = "a\nb\x1b[31m\x00\u202e\udc80"
PRINTED = "größe √\n\x1b"
FILE = HOSTILE.replace("\0", "")  # no file name holds one


@pytest.mark.parametrize("name", TERMINAL)
def test_control_characters_do_not_reach_the_terminal(name: str) -> None:
    hostile = finding(
        subject=HOSTILE, message=HOSTILE, help=HOSTILE, related=(HOSTILE + "2",), site=Site(FILE, 1)
    )
    hostile = replace(hostile, measured={HOSTILE: HOSTILE}, consequences=(hostile,))
    failed = TargetReport(HOSTILE, "error", Failure("build", "E", HOSTILE, FILE, 1), findings=(hostile,))
    text = render(name, Report(TOOL, (replace(failed, inputs_text=HOSTILE), failed)), width=80, verbose=True)
    assert all(line.isprintable() for line in text.split("\n"))
    assert "a\\nb\\x1b[31m\\x00\\u202e\\udc80" in text.replace("\n", "").replace(" ", "")


def test_json_is_strict_whatever_the_values() -> None:
    hostile = finding(
        subject=PRINTED,
        measured={"a": math.nan, "b": math.inf, "c": True},
        expected={"d": -math.inf, "e": "above 0"},
    )
    text = render("json", one(hostile))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    [read] = json.loads(text, parse_constant=refuse)["targets"][0]["findings"]
    assert text.isascii()
    assert read["subject"] == PRINTED
    assert read["measured"] == {"a": "NaN", "b": "Infinity", "c": True}
    assert read["expected"] == {"d": "-Infinity", "e": "above 0"}


def test_ascii_only_keeps_the_meaning() -> None:
    assert ascii_only("max·√n ≥ 3–4×…") == "max*sqrt n >= 3-4x..."
    assert ascii_only("größe") == "gr\\xf6\\xdfe"
    assert ascii_only(render("table", REPORT, verbose=True)).isascii()


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=4), st.integers(1, 130))
def test_explanations_stand_under_their_rows(texts: list[tuple[str, str, str]], width: int) -> None:
    odd = [finding(subject=a, related=(b,), measured={b: c, a: 1}, help="try") for a, b, c in texts]
    text = render("table", one(*odd, finding(help="try")), width=width, quiet=True)
    marks = re.findall(r"^error IL101|^  help: try$", text, re.MULTILINE)
    assert marks == ["error IL101", "  help: try"] * (len(texts) + 1)


@given(st.text())
def test_escape_prints_and_keeps_plain_text(text: str) -> None:
    assert escape(text).isprintable()
    assert escape(text) == text or not text.isprintable()


def test_figures_have_three_digits() -> None:
    assert [figure(v) for v in (0.0883883, 1234, 3.0, math.nan, True, "above 0")] == [
        "0.0884",
        "1234",
        "3",
        "nan",
        "yes",
        "above 0",
    ]
    assert [size(n) for n in (0, 999, 999_600, 6_333_480, 5 * 10**14)] == [
        "0 bytes",
        "999 bytes",
        "1 MB",
        "6.33 MB",
        "500 TB",
    ]


# ---------------------------------------------------------------- folding

PART = st.one_of(
    st.integers(0, 3).map(str), st.sampled_from(["fc", "weight", "01", "{", "}", "{0,1}", "{{0}", ""])
)


@given(st.lists(st.lists(PART, max_size=4).map(".".join), max_size=30))
def test_expanding_the_patterns_gives_the_names_back(names: list[str]) -> None:
    expanded = [name for pattern in fold(names) for name in expand(pattern)]
    assert sorted(expanded) == sorted(set(names))


@given(st.lists(st.text(), max_size=5))
def test_any_text_survives_folding(names: list[str]) -> None:
    assert sorted(name for pattern in fold(names) for name in expand(pattern)) == sorted(set(names))


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        ([f"blocks.{i}.mlp.fc1.weight" for i in range(12)], ["blocks.{0..11}.mlp.fc1.weight"]),
        ([f"blocks.{i}.w" for i in (5, 0, 2)], ["blocks.{0,2,5}.w"]),
        ([f"b.{i}.w" for i in (0, 1, 2, 3, 7)], ["b.{0..3,7}.w"]),
        ([f"stage.{i}.{j}.w" for i in range(3) for j in range(2)], ["stage.{0..2}.{0,1}.w"]),
        (["s.0.0.w", "s.0.1.w", "s.1.0.w"], ["s.0.{0,1}.w", "s.1.0.w"]),
        (["b.1.w", "head.w", "b.0.w", "b.0.v"], ["b.{0,1}.w", "head.w", "b.0.v"]),
        (["0", "1"], ["{0,1}"]),
        (["only"], ["only"]),
        ([], []),
    ],
)
def test_folded(names: list[str], patterns: list[str]) -> None:
    assert fold(names) == patterns


# ---------------------------------------------------------------- contracts


def test_json_fits_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(REPORT.to_json()), SCHEMA)
    wrong = document(REPORT)
    del wrong["targets"][0]["findings"][0]["consequences"], wrong["targets"][0]["findings"][0]["fingerprint"]
    with pytest.raises(jsonschema.ValidationError, match="fingerprint"):
        jsonschema.validate(wrong, SCHEMA)


def test_json_has_every_key_of_the_contract() -> None:
    read = document(REPORT)
    target = read["targets"][0]
    assert {"schema", "tool", "targets", "summary"} <= read.keys()
    assert {"errors": 1, "warnings": 1, "notes": 0, "suppressed": 1, "targets": 3}.items() <= read[
        "summary"
    ].items()
    assert set(target["seconds"]) == {"import", "construct", "statistics", "trace", "probe", "rules"}
    assert read["targets"][1]["error"]["stage"] == "build"


def test_notebook_table_escapes_markup() -> None:
    text = one(finding(subject="<script>", message="a < b & c"))._repr_html_()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "a &lt; b &amp; c" in text


def test_formats_load_lazily_and_without_torch() -> None:
    program = """
import sys
from initlint.report import FORMATS
assert "initlint.report.table" not in sys.modules
from initlint.report import Report, Tool
for render in FORMATS.values():
    render(Report(Tool("0", "2", "3", 0, "cpu"), ()), width=80, color=False)
assert "initlint.report.table" in sys.modules
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
