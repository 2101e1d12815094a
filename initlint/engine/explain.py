"""Findings are told where their values come from: the lines behind the arguments of a call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from torch import nn

from initlint.evidence import Evidence, Provenance
from initlint.finding import Finding, Location, Site
from initlint.source import slice_of_test, slice_of_write

_LINES = 3  # added to one finding


def explain(findings: Iterable[Finding], evidence: Evidence, model: nn.Module) -> tuple[Finding, ...]:
    """The findings, each with the lines that its init call got its arguments from."""
    written: dict[Site, Provenance] = {}
    for tensor in evidence.tensors:
        if tensor.provenance.last_write is not None and not tensor.provenance.last_write.default:
            written.setdefault(tensor.provenance.last_write.site, tensor.provenance)
    tests = {test.site: test for test in evidence.member_tests}
    classes = tuple(dict.fromkeys(type(module) for module in model.modules()))

    def lines(finding: Finding) -> Iterator[Location]:
        for site in (finding.site, *(place.site for place in finding.locations)):
            if site in tests:
                return slice_of_test(tests[site], classes)
            if site in written:
                return slice_of_write(written[site], classes)
        return iter(())

    return tuple(_with_locations(finding, lines(finding)) for finding in findings)


def _with_locations(finding: Finding, lines: Iterator[Location]) -> Finding:
    shown = {finding.site, *(place.site for place in finding.locations)}
    further = {place.site: place for place in lines if place.site not in shown}.values()
    return replace(finding, locations=(*finding.locations, *islice(further, _LINES)))
