"""What the lines say that make modules and run initialisers over them: facts that only the source tells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from initlint.evidence import ModuleRecord, Provenance, Statement
from initlint.finding import Site
from initlint.source import extended, worked_on

Scope = tuple[str, str]


def statements(modules: Iterable[ModuleRecord], provenances: Iterable[Provenance]) -> dict[Site, Statement]:
    """The lines of functions that initialise modules and construct further ones below that line.

    No other function's source is read.
    """
    initialising: dict[Scope, set[Site]] = {}
    for provenance in provenances:
        for write in provenance.explicit:
            for site in _up_to_constructor((write.site, *write.callers)):
                initialising.setdefault(site.scope, set()).add(site)
    constructing: dict[Scope, set[Site]] = {}
    for module in modules:
        made = module.construction
        if made is not None and any(site.line < made.line for site in initialising.get(made.scope, ())):
            constructing.setdefault(made.scope, set()).add(made)
    lines = {site for scope, made in constructing.items() for site in (*made, *initialising[scope])}
    return {
        site: Statement(extended(site.file, site.line), worked_on(site.file, site.line)) for site in lines
    }


def _up_to_constructor(lines: Iterable[Site]) -> Iterator[Site]:
    """Lines from the innermost outwards, to the first that stands in a constructor."""
    for site in lines:
        yield site
        if site.scope[1].endswith("__init__"):
            return
