"""What a rule reports: a finding, where it is, and how bad it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error")
Figure = float | int | str | bool


@dataclass(frozen=True, slots=True)
class Site:
    """A line of source code; `package` names the installed package it belongs to, None for the user's own."""

    file: str
    line: int
    function: str = ""
    package: str | None = None
    qualified: str = field(default="", compare=False)  # the function with what it stands in, where known

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def short(self) -> str:
        """As a message names it: "m.py:41"."""
        return f"{os.path.basename(self.file)}:{self.line}"

    @property
    def scope(self) -> tuple[str, str]:
        """File and function that the line stands in, comprehensions counted to it."""
        return self.file, self.qualified.partition(".<locals>.<")[0]


@dataclass(frozen=True, slots=True)
class Location:
    """A further place that a finding talks about, and what happened there."""

    site: Site
    what: str


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Code to paste; `verified` when a probe with it applied no longer showed the finding."""

    code: str
    verified: bool = False
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: what it is about, what was measured, what was expected, and where it was written.

    `subject` is the full name of a parameter, buffer or module ("" for the model as a whole);
    `related` are others with the same cause; `consequences` are findings that follow from this one.
    """

    code: str
    rule: str
    severity: Severity
    subject: str
    message: str
    help: str = ""
    related: tuple[str, ...] = ()
    measured: Mapping[str, Figure] = field(default_factory=dict)
    expected: Mapping[str, Figure] = field(default_factory=dict)
    site: Site | None = None
    locations: tuple[Location, ...] = ()
    suggestion: Suggestion | None = None
    suppressed: str | None = None
    consequences: tuple[Finding, ...] = ()

    def fingerprint(self, target: str) -> str:
        """A key that outlives edits: target, code and subject, without line or measured value."""
        import hashlib  # OpenSSL takes a while to load, and listing rules needs none

        return hashlib.blake2b(f"{target}\0{self.code}\0{self.subject}".encode(), digest_size=8).hexdigest()
