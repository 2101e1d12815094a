"""Who wrote what and where, in words: phrases and locations for messages about provenance."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from initlint.finding import Location

if TYPE_CHECKING:
    from initlint.evidence import Write
    from initlint.finding import Site

_CALLERS = 3  # lines shown of the way to a write


def at(site: Site) -> str:
    """A line as a message names it: "m.py:41"."""
    return f"{os.path.basename(site.file)}:{site.line}"


def said(write: Write) -> str:
    """A write as a message names it: "nn.init.zeros_ at m.py:41"."""
    return f"{write.operation} at {at(write.site)}"


def way(write: Write) -> tuple[Location, ...]:
    """The lines through which a write was reached, innermost first."""
    own = [site for site in write.callers if site.package == write.site.package]
    return tuple(Location(site, f"calls {_name(write.site)}") for site in own[:_CALLERS])


def _name(site: Site) -> str:
    return site.qualified.replace("<locals>.", "")
