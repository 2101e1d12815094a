"""Runs a model and leaves no trace."""

from initlint.runtime import strides
from initlint.runtime.call import Inputs
from initlint.runtime.containers import ATOMS, drained, mapped, tensors
from initlint.runtime.guarded import attribute, fault, set_mode
from initlint.runtime.preserve import preserved
from initlint.runtime.resample import reordered, varied
from initlint.runtime.seeds import generators, seed_generators
from initlint.runtime.snapshots import CopyOnWrite, Snapshot, snapshot, written
from initlint.runtime.streams import stdout_to_stderr
from initlint.runtime.strides import contiguous, dense, extent

__all__ = [
    "ATOMS",
    "CopyOnWrite",
    "Inputs",
    "Snapshot",
    "attribute",
    "contiguous",
    "dense",
    "drained",
    "extent",
    "fault",
    "generators",
    "mapped",
    "preserved",
    "reordered",
    "seed_generators",
    "set_mode",
    "snapshot",
    "stdout_to_stderr",
    "strides",
    "tensors",
    "varied",
    "written",
]
