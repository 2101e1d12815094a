"""IL109 padding-row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule
from initlint.analysis.remedies import clear

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class PaddingRow(Rule):
    """An embedding whose row for the padding index is not zero.

    The row has no gradient, so it keeps for ever what it was given: wherever a sequence is padded, the
    model adds up this noise as if it were a word.

    Set the row to zero after drawing the table: `weight[padding_idx].fill_(0)` under torch.no_grad().

    References:
        torch.nn.Embedding, padding_idx: the embedding vector at padding_idx defaults to all zeros and is
        not updated during training.
    """

    code = "IL109"
    name = "padding-row"
    severity = "warning"
    needs = frozenset({"statistics"})

    def check(self, model: Evidence) -> Iterator[Finding]:
        for table in model.parameters:
            padding = table.padding
            if padding is None or padding.largest == 0 or table.provenance.loaded:
                continue
            last = table.provenance.last_write
            wrote = f" after {last.operation}" if last is not None and not last.default else ""
            yield self.finding(
                table,
                f"row {padding.row}, the padding index, holds values up to {padding.largest:.3g}{wrote}",
                measured={"absmax": padding.largest},
                expected={"absmax": 0.0},
                help="set the row to zero after the table is drawn",
                suggestion=clear(table, padding.row),
            )
