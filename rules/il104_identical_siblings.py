"""IL104 identical-siblings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from initlint import Location, Rule
from initlint.analysis.families import numberless
from initlint.analysis.locations import drawing_lines, listed, seeding_lines

if TYPE_CHECKING:
    from initlint import Evidence, Finding, Tensor


class IdenticalSiblings(Rule):
    """Random values that are the same, bit for bit, in several parameters or in several slices of one.

    Layers, heads or experts that start as copies start as one: what random values are drawn for, that
    every unit looks at its input in its own way, is lost, and under equal inputs the copies stay equal.

    Draw each parameter anew after cloning a module (nn.TransformerEncoder clones its layer), take one
    generator for all layers instead of seeding one in each, and draw a stack slice by slice.

    References:
        torch.nn.TransformerEncoder, note: all layers are initialised with the same parameters; it is
        recommended to initialise the layers by hand after creating them.
    """

    code = "IL104"
    name = "identical-siblings"
    severity = "warning"
    needs = frozenset({"statistics"})
    explained_by = {"broken-tying": "same"}

    def check(self, model: Evidence) -> Iterator[Finding]:
        probed = any(p.gradient is not None and p.gradient.scale is not None for p in model.parameters)
        groups: dict[str, list[Tensor]] = {}
        for parameter in model.parameters:
            figures, gradient = parameter.statistics, parameter.gradient
            learns = not probed or (gradient is not None and gradient.scale is not None)
            if figures is None or figures.constant or not parameter.requires_grad or not parameter.drawn:
                continue
            yield from self._slices(parameter)
            if learns and len(parameter.shape) > 1:  # equal biases alone leave the layers apart
                groups.setdefault(figures.digest, []).append(parameter)
        for group in groups.values():
            if len(group) > 1:
                yield self._siblings(group)

    def _siblings(self, group: Sequence[Tensor]) -> Finding:
        first, *others = group
        copied = any(p.provenance.copied_from for p in group)
        numbered = len({numberless(p.name) for p in group}) < len(group)
        last = others[0].provenance.last_write
        seeded = seeding_lines(group)
        how = f", made by {last.operation}" if copied and last and not last.default else ""
        if seeded:
            how = ", the generator seeded anew before each"
        return self.finding(
            first,
            f"{len(group)} parameters hold the same random values{how}: {listed(group)}",
            measured={"identical": len(group)},
            expected={"identical": 1},
            help="initialise the copies again, each with values of its own"
            if copied
            else "draw all of them from one generator, without seeding it in between",
            severity=None
            if numbered or not copied
            else "note",  # a copy under another name is meant to be one
            related=[p.name for p in others],
            site=seeded[0] if seeded else None,
            locations=(
                *(Location(line, "seeded here as well") for line in seeded[1:]),
                *drawing_lines(group),
            ),
        )

    def _slices(self, weight: Tensor) -> Iterator[Finding]:
        figures, use = weight.statistics, weight.use
        assert figures is not None
        stacked: tuple[int, ...] = (0,) if use is None and len(weight.shape) == 3 else ()
        if use is not None and use.role == "matrix" and len(weight.shape) > 2:
            stacked = (*use.stacked, *use.outputs)
        for axis in stacked:
            if axis >= len(figures.duplicates):
                continue
            copies = figures.duplicates[axis] - max(figures.constant_slices[axis] - 1, 0)
            if copies > 0:
                yield self.finding(
                    weight,
                    f"{copies} of {weight.shape[axis]} slices along axis {axis} repeat the random values "
                    "of another",
                    measured={"identical": copies + 1},
                    expected={"identical": 1},
                    help="draw every slice of the stack on its own",
                    locations=drawing_lines([weight]),
                )
