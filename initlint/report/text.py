"""How names, numbers, sentences and places are written in text for people."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from initlint.finding import Figure, Finding, Site

STYLES = {"bold": "1", "dim": "2", "error": "1;31", "warning": "1;33", "note": "1;36"}
_ASCII = str.maketrans({
    "·": "*", "…": "...", "√": "sqrt ", "×": "x", "≥": ">=", "≤": "<=", "≈": "~", "±": "+/-", "²": "^2",
    "–": "-", "—": "-", "→": "->", "‘": "'", "’": "'", "“": '"', "”": '"', "σ": "std", "∞": "inf",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class View:
    """How the reader looks at the report; width in columns, None when lines may be of any length."""

    width: int | None
    color: bool = False
    verbose: bool = False
    quiet: bool = False

    def paint(self, text: str, style: str) -> str:
        """The text in one of STYLES, if colours are wanted."""
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self.color and text else text

    def marker(self, finding: Finding) -> str:
        """Severity, in words whatever the colour, and code."""
        return f"{self.paint(finding.severity, finding.severity)} {self.paint(escape(finding.code), 'bold')}"

    def fill(
        self, text: str, indent: str = "", hang: str = "  ", head: str = "", style: str = "bold"
    ) -> list[str]:
        """`head`, painted, and text on lines of at most `width` columns, continued under `hang`."""
        lines = [indent + head + text]
        if self.width is not None:
            lines = textwrap.wrap(
                head + text,
                max(self.width, len(indent) + 20),
                initial_indent=indent,
                subsequent_indent=indent + hang,
                break_on_hyphens=False,
                break_long_words=False,
            )
        if lines and lines[0].startswith(indent + head):
            lines[0] = indent + self.paint(head, style) + lines[0][len(indent + head) :]
        return lines


def escape(text: str) -> str:
    """The text with control characters, bidi marks and whatever else does not print spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def sentence(text: str) -> str:
    """A message on one line: white space collapsed, the rest escaped."""
    return escape(" ".join(text.split()))


def ascii_only(text: str) -> str:
    """The text for a stream that cannot encode more than ASCII."""
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def figure(value: Figure) -> str:
    """A measured or expected value; three significant digits for fractions."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}"
        case int():
            return str(value)
    return sentence(str(value))


def count(number: int, noun: str) -> str:
    """3 errors, 1 warning, no notes are "0 notes"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """Bytes in decimal units: 498 MB."""
    value = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def name_list(names: Iterable[str], limit: int | None = 5) -> str:
    """Comma-separated names, those beyond the limit counted."""
    every = list(names)
    if limit is None or len(every) <= limit + 1:
        return ", ".join(every)
    return f"{', '.join(every[:limit])} and {len(every) - limit} more"


def relative(file: str) -> str:
    """The path from the working directory if it lies inside it, else as it is."""
    path = PurePath(file)
    here = PurePath(os.getcwd())
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else file


def place(site: Site) -> str:
    """file:line; files of installed packages without the folder they are installed in."""
    file = relative(site.file)
    if site.package is not None and PurePath(file).is_absolute():
        file = re.sub(r"^.*[/\\](?:site|dist)-packages[/\\]", "", file)
    return f"{escape(file)}:{site.line}"
