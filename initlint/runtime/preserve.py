"""Leave a model, its inputs, the random generators and torch's global flags exactly as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from initlint.runtime.snapshots import CopyOnWrite, snapshot


@contextmanager
def preserved(model: nn.Module, *values: object) -> Iterator[None]:
    """Afterwards `model`, the tensors in `values` and all global state are bit for bit as before.

    Covers parameters, buffers, plain attributes (tensors, containers, generators, objects), gradients,
    hooks, training flags, random generators and torch's global flags, also when the body raises.
    """
    with snapshot(model, *values) as kept, CopyOnWrite(kept):
        yield
