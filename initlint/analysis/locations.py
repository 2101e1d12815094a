"""Who wrote what and where, in words: phrases and locations for messages about provenance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from initlint.finding import Location

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Signal, Tensor, Unregistered, Write
    from initlint.finding import Site


def stack_locations(model: Evidence, weights: Iterable[Tensor]) -> tuple[Location, ...]:
    """The line that makes the list of layers or blocks that all the weights stand in."""
    owners = [weight.owner.split(".") for weight in weights]
    path = ".".join(steps[0] for steps in takewhile(lambda s: len(set(s)) == 1, zip(*owners, strict=False)))
    module = model.modules_by_path.get(path) if path else None
    if module is None or module.construction is None or not module.children:
        return ()
    return (Location(module.construction, f"{path} is made here"),)


def signal_locations(steps: Iterable[Signal], tensors: Iterable[Tensor]) -> tuple[Location, ...]:
    """The lines that tell a story of weights and the operations that apply them."""
    written = [Location(t.site, f"{t.name} got its values") for t in tensors if t.site is not None]
    ran = [Location(s.site, f"{s.operation} ran") for s in steps if s.site is not None]
    return tuple({place.site: place for place in (*reversed(ran), *reversed(written))}.values())[::-1]


_CALLERS = 3  # lines shown of the way to a write


def line(site: Site) -> str:
    """A line as a message names it: "m.py:41"."""
    return site.short


def phrase(write: Write) -> str:
    """A write as a message names it: "nn.init.zeros_ at m.py:41"."""
    return f"{write.operation} at {line(write.site)}"


def callers(write: Write | None) -> tuple[Location, ...]:
    """The lines through which a write was reached, innermost first; none of no write."""
    if write is None:
        return ()
    own = [site for site in write.callers if site.package == write.site.package]
    return tuple(Location(site, f"calls {_name(write.site)}") for site in own[:_CALLERS])


def _name(site: Site) -> str:
    return site.qualified.replace("<locals>.", "")


# ---------------------------------------------------------------- what is not registered

_HOLDERS = {
    "list": "a plain list",
    "dict": "a plain dict",
    "tuple": "a tuple",
    "attribute": "a plain attribute",
    "object": "an object that is no module",
    "class": "the class, not the instance,",
    "closure": "a closure",
    "global": "a global variable",
}


def holder(item: Unregistered) -> str:
    """What holds something that is not registered, in words."""
    return _HOLDERS.get(item.container, item.container)


def registration(item: Unregistered) -> str:
    """What registers a module or parameter: "nn.ModuleList in place of the list"."""
    kind = {"module": "Module", "parameter": "Parameter"}.get(item.kind, "Buffer")
    if item.container in ("list", "tuple"):
        return f"nn.{kind}List in place of the {item.container}"
    if item.container == "dict":
        return f"nn.{kind}Dict in place of the dict"
    if item.kind == "parameter" and item.container == "attribute":
        return "assign an nn.Parameter that already has its final values, dtype and device"
    return f"assign the {item.kind} to an attribute of the module"


def origin(item: Unregistered) -> tuple[Location, ...]:
    """Where something that is not registered was assigned and made, beside its own line."""
    lines = ((item.assigned, "assigned here"), (item.made, "made here"))
    return tuple(Location(site, what) for site, what in lines if site is not None and site != item.site)


def seeding_lines(group: Sequence[Tensor]) -> tuple[Site, ...]:
    """The lines that seeded torch's generator, each time anew, before each was drawn, the last one first."""
    found = {p.provenance.seeding for p in group if p.provenance.copied_from is None}
    distinct = sorted((s for s in found if s is not None), key=lambda seeding: -seeding.order)
    return tuple(dict.fromkeys(s.site for s in distinct)) if len(distinct) == len(group) else ()


def drawing_lines(group: Sequence[Tensor]) -> Iterator[Location]:
    """The lines that drew or copied the values, and those that called them."""
    seen = set()
    for parameter in group:
        origin = parameter.provenance
        places = [(origin.construction, "constructed here")]
        for write in (*origin.writes[-1:], *origin.origins):
            places += [(site, f"{write.operation} here") for site in (write.site, *write.callers)]
        for site, what in places:
            if site is not None and site not in seen and site.package is None:
                seen.add(site)
                yield Location(site, what)


def last_writes(tensors: Iterable[Tensor]) -> tuple[Location, ...]:
    """The lines that decided the values of some tensors."""
    writes = ((tensor.name, tensor.provenance.last_write) for tensor in tensors)
    return tuple(Location(w.site, f"{name} written by {w.operation}") for name, w in writes if w is not None)


def listed(group: Sequence[Tensor]) -> str:
    """Up to three names; of more the first two and the last."""
    names = [p.name for p in group]
    return ", ".join(names) if len(names) < 4 else f"{names[0]}, {names[1]}, … {names[-1]}"
