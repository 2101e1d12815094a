"""IL208 embedding-scale."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Location, Rule, theory
from initlint.analysis import symptoms
from initlint.analysis.signal_path import is_weight
from initlint.analysis.sums import is_added_in_each_step, table_in_sum

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class EmbeddingScale(Rule):
    """An embedding that drowns what it is added to, or a head whose first logits are far too sharp.

    Where one summand is many times larger than the other, the sum starts out without the smaller one: a
    model whose tokens are drowned by their positions sees the same input every time. A head drawn as an
    embedding is, around 1, has logits that grow with the square root of the width, and training begins by
    shrinking them. Sums of an installed package are a note: its scales suit the sizes that it publishes.

    Give summands one scale, and a head, tied to the embedding or not, a standard deviation near
    1/√width (0.02 is usual).

    References:
        Vaswani et al., Attention is all you need, 2017, section 3.4: embeddings are multiplied by √width.
        Press & Wolf, Using the output embedding to improve language models, 2017: one matrix for both.
    """

    code = "IL208"
    name = "embedding-scale"
    severity = "warning"
    level = "comparison"
    needs = frozenset({"statistics", "graph", "probe"})
    explained_by = {"non-finite-parameter": "anywhere"}
    drowned: float = 0.05  #: share of a sum that still depends on the input, below which it is lost
    ratio: float = 60.0  #: published models add positions of std 0.02 to embeddings of std 1, which is 50
    zero: float = 1e-3  #: an embedding below this rms was started at zero on purpose
    sharp: float = 3.0  #: std of logits that adds 4.5 nats (half its square) to the loss of even odds

    def check(self, model: Evidence) -> Iterator[Finding]:
        yield from self._sums(model)
        yield from self._heads(model)

    def _sums(self, model: Evidence) -> Iterator[Finding]:
        for total in model.signals:
            loud, quiet = table_in_sum(model, total) if total.operands else (None, None)
            if loud is None or quiet is None or total.operands is None or total.across_inputs is None:
                continue
            large, small = max(total.operands), min(total.operands)
            quiet_tensors = model.named(quiet.weights)
            if is_added_in_each_step(loud, large):
                continue
            lost = total.across_inputs < self.drowned < (quiet.across_inputs or 0) / 2
            tables = all(t.use is not None and t.use.role in ("lookup", "table") for t in quiet_tensors)
            outdone = bool(quiet_tensors) and tables and large > self.ratio * small > self.ratio * self.zero
            if (lost and small < self.drowned * large) or outdone:
                share = f"{total.across_inputs:.1%} of the sum depends on the input"
                yield self.finding(
                    (loud, *quiet_tensors),
                    f"rms {large:.3g} is added to {quiet.module or quiet.node} of rms {small:.3g}"
                    + (f": {share}" if lost else ", which is lost in it"),
                    help=f"scale it down to about {small:.2g}, or what it is added to up",
                    severity=self.note_if_published((loud, *quiet_tensors)),
                    measured={"rms": large},
                    expected={"rms": f"about {small:.2g}"},
                    locations=[
                        Location(t.site, f"{t.name} is written here")
                        for t in quiet_tensors
                        if t.site is not None
                    ],
                )

    def _heads(self, model: Evidence) -> Iterator[Finding]:
        for logits in model.logits:
            excess = logits.loss - math.log(logits.classes)
            for weight in model.named(logits.weights):
                if not is_weight(weight) or not weight.use.fan_in:
                    continue
                expected = theory.expected_std(weight.use.fan_in)
                gain = weight.statistics.rms / expected
                gain = min(gain, symptoms.amplification(model, weight) or math.inf)
                if logits.std > self.sharp < gain and excess > 1:
                    yield self.finding(
                        weight,
                        f"logits start with a standard deviation of {logits.std:.3g} and a cross-entropy of "
                        f"{logits.loss:.3g}, where even odds among {logits.classes} have "
                        f"{math.log(logits.classes):.3g}: the weight multiplies the scale by {gain:.3g}",
                        help="draw it with a standard deviation of about "
                        f"{expected:.2g}, 1/√{weight.use.fan_in}",
                        measured={"std": weight.statistics.std},
                        expected={"std": expected},
                    )
