"""Forget gates of LSTMs that start open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint.analysis.recipes.recipe import Deviation, Recipe, writes

if TYPE_CHECKING:
    from initlint.evidence import Evidence, UsedTensor

GATES = ("input", "forget", "cell", "output")  # order of nn.LSTM and nn.LSTMCell
FORGET = 1
#: A gate of constant bias below this is as good as half open.
OPEN = 0.5


def _filled(bias: UsedTensor) -> list[float]:
    """The constant that each gate's bias was set to, 0 for none."""
    return [part.mean if part.constant and part.mean >= OPEN else 0.0 for part in bias.statistics.parts]


def _layers(model: Evidence) -> Iterator[dict[str, list[UsedTensor]]]:
    """Biases of the LSTMs that stand at one place of the model, by cell: layer, direction or index."""
    groups: dict[str, dict[str, list[UsedTensor]]] = {}
    for bias in model.used_parameters:
        if bias.use.role != "shift" or bias.use.parts != len(GATES):
            continue
        if len(bias.statistics.parts) == len(GATES) and bias.local_name.startswith(("bias_ih", "bias_hh")):
            cell = f"{bias.owner}{bias.local_name.removeprefix('bias_ih').removeprefix('bias_hh')}"
            place = bias.family.rpartition(".")[0]
            groups.setdefault(place, {}).setdefault(cell, []).append(bias)
    yield from groups.values()


def _neighbours(model: Evidence) -> Iterator[dict[str, list[UsedTensor]]]:
    """The same of LSTMs that stand beside each other under names of their own, an encoder and a decoder."""
    parents: dict[str, dict[str, dict[str, list[UsedTensor]]]] = {}
    for cells in _layers(model):
        first = next(iter(cells.values()))[0]
        parents.setdefault(first.owner.rpartition(".")[0], {})[first.owner] = cells
    for beside in parents.values():
        opened = [any(_filled(b)[FORGET] for bs in cells.values() for b in bs) for cells in beside.values()]
        if any(opened) and not all(opened):
            yield {cell: biases for cells in beside.values() for cell, biases in cells.items()}


def _deviations(model: Evidence) -> Iterator[Deviation]:
    for cells in _neighbours(model):
        given = [b for biases in cells.values() for b in biases if _filled(b)[FORGET]]
        missed = [biases[-1] for biases in cells.values() if not any(_filled(b)[FORGET] for b in biases)]
        yield _partial(given[0], missed, harms=False)
    for cells in _layers(model):
        opened = {cell: [b for b in biases if _filled(b)[FORGET]] for cell, biases in cells.items()}
        for biases in cells.values():
            for bias in biases:
                filled = _filled(bias)
                gates = [name for name, value in zip(GATES, filled, strict=True) if value]
                if gates and "forget" not in gates:
                    yield _astray(bias, gates, max(filled))
        given = [bias for biases in opened.values() for bias in biases]
        missed = [biases[-1] for cell, biases in cells.items() if not opened[cell]]
        if given and missed:
            yield _partial(given[0], missed, harms=True)


def _astray(bias: UsedTensor, gates: list[str], value: float) -> Deviation:
    mean = bias.statistics.parts[FORGET].mean
    return Deviation(
        subject=bias,
        message=f"the bias of the {' and '.join(gates)} gate is {value:.3g}, that of the forget gate "
        f"{mean:.3g}; the order is {', '.join(GATES)}",
        help="set elements hidden_size to 2·hidden_size of the bias, the forget gate",
        measured={"forget": mean, gates[0]: value},
        expected={"forget": value, gates[0]: 0.0},
        harms=True,
    )


def _partial(given: UsedTensor, missed: list[UsedTensor], *, harms: bool) -> Deviation:
    subject = missed[0]
    forget = subject.statistics.parts[FORGET].mean
    value = _filled(given)[FORGET]
    return Deviation(
        subject=subject,
        message=f"the forget gate starts at bias {forget:.3g}, but at {value:.3g} in {given.name}",
        help="set the forget bias in every layer and direction",
        measured={"forget": forget},
        expected={"forget": value},
        harms=harms,
        related=tuple(bias.name for bias in missed[1:]),
        site=given.site,
        locations=writes(missed, "left as it was"),
    )


FORGET_BIAS = Recipe(
    name="LSTM forget bias",
    asks="the bias of the forget gate is at least 1, in every layer and direction that gets one",
    reference="Jozefowicz, Zaremba & Sutskever, An Empirical Exploration of Recurrent Network Architectures, "
    "2015, section 2.1",
    deviations=_deviations,
)
