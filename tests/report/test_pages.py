from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from initlint import registry
from initlint.report.pages import files, prose, reasons, rule_page, rule_table
from initlint.rule import Example, Relation, Rule

if TYPE_CHECKING:
    from torch import nn

PAGES = Path(__file__).parents[2] / "docs" / "rules"


def wide() -> nn.Module:
    from torch import nn

    return nn.Linear(64, 4)


def narrow() -> nn.Module:
    from torch import nn

    return nn.Linear(4, 64)


class TooWide(Rule):
    """A layer that is too wide.

    Wide layers do not fit through doors.

    Doors are narrow everywhere.

    Make it narrower.

    References:
        Carpenter, Doors, 1999, page 3: the frame
        decides.
        Locksmith, Keys, 2001.
    """

    code = "IL999"
    name = "too-wide"
    severity = "note"
    needs = frozenset({"probe", "statistics"})
    level = "draw"
    explained_by: ClassVar[dict[str, Relation]] = {"constant-weight": "same"}
    examples = (Example(wide, finds=("weight", ""), options={"limit": 1.5}), Example(narrow))

    #: a door is 90 cm wide,
    #: and a hand 9
    limit: float = 0.9
    unit: str = "m"  #: the metre # of Paris
    strict: bool = False
    quoted: str = "#: no comment"


def test_prose_has_three_parts_and_references() -> None:
    said = prose(TooWide)
    assert said.fact == "A layer that is too wide."
    assert said.why == "Wide layers do not fit through doors.\n\nDoors are narrow everywhere."
    assert said.remedy == "Make it narrower."
    assert said.references == ("Carpenter, Doors, 1999, page 3: the frame decides.", "Locksmith, Keys, 2001.")


def test_reasons_are_the_comments_of_the_options() -> None:
    assert reasons(TooWide) == {
        "limit": "a door is 90 cm wide, and a hand 9",
        "unit": "the metre # of Paris",
        "strict": "",
        "quoted": "",
    }


def test_page() -> None:
    text = rule_page(TooWide)
    assert text.startswith(
        "# IL999 too-wide\n\nA layer that is too wide.\n\nSeverity: note. Needs: statistics, probe."
    )
    assert "Level: draw. Also shown under: constant-weight." in text
    assert "- `limit = 0.9`: a door is 90 cm wide, and a hand 9\n" in text
    assert '- `unit = "m"`: the metre # of Paris\n- `strict = false`\n' in text
    assert "In `weight`, the whole model with `limit = 1.5`:\n\n```python\ndef wide() -> nn.Module:\n" in text
    assert (
        text.index("## Found")
        < text.index("def wide")
        < text.index("## Not found")
        < text.index("def narrow")
    )
    assert text.endswith("- Locksmith, Keys, 2001.\n")


def test_table_links_to_the_pages() -> None:
    assert "| IL999 | too-wide | note     | A layer that is too wide |" in rule_table([TooWide])
    assert "[too-wide](too-wide.md)" in files([TooWide])["README.md"]


def test_committed_pages_are_what_the_rules_say() -> None:
    fresh = files(registry.load().rules)
    committed = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    assert not stale, "run 'python -m initlint.report.pages docs/rules' and commit docs/rules"
