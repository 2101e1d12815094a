"""What all runs of a model share: it stays as it was, and is walked, seeded and read in one way."""

from initlint.runtime import strides
from initlint.runtime.call import Inputs
from initlint.runtime.containers import drained, leaves, mapped, operands
from initlint.runtime.guarded import attribute, fault, set_mode
from initlint.runtime.layers import LOOKUPS, Layer, layer
from initlint.runtime.preserve import preserved
from initlint.runtime.resample import reordered, varied
from initlint.runtime.seeds import seed_generators, seeded
from initlint.runtime.snapshots import CopyOnWrite, Snapshot, snapshot, written
from initlint.runtime.streams import stdout_to_stderr
from initlint.runtime.strides import contiguous, dense, extent

__all__ = [
    "LOOKUPS",
    "CopyOnWrite",
    "Inputs",
    "Layer",
    "Snapshot",
    "attribute",
    "contiguous",
    "dense",
    "drained",
    "extent",
    "fault",
    "layer",
    "leaves",
    "mapped",
    "operands",
    "preserved",
    "reordered",
    "seed_generators",
    "seeded",
    "set_mode",
    "snapshot",
    "stdout_to_stderr",
    "strides",
    "varied",
    "written",
]
