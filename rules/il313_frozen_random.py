"""IL313 frozen-random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.frozen import frozen_draws, last_draw

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class FrozenRandom(Rule):
    """A parameter that was drawn at random and is not trained.

    What is frozen keeps its values. Random ones were most likely frozen before the pretrained weights were
    loaded, by a test that matches more names than meant, or by `Embedding.from_pretrained`, which freezes.

    Load the weights that are to be kept, or leave requires_grad at True.

    References:
        PyTorch documentation, nn.Embedding.from_pretrained: freeze is True by default.
    """

    code = "IL313"
    name = "frozen-random"
    severity = "warning"
    needs = frozenset({"provenance", "statistics", "graph"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for parameter, deliberate in frozen_draws(model):
            last = last_draw(parameter)
            yield self.finding(
                parameter,
                f"was drawn by {last.operation if last else 'a generator'} and does not require a gradient: "
                f"its {parameter.elements} values stay what the draw gave",
                measured={"requires_grad": False},
                expected={"requires_grad": True},
                severity="note" if deliberate else None,
                help="load the values that it is to keep, or leave requires_grad at True",
                site=parameter.provenance.frozen,
            )
