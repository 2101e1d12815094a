"""One forward and backward, and the training steps that confirm a suspicion."""

from initlint.probe.confirmation import OutOfTimeError, confirm, suspects
from initlint.probe.run import Probe, probe

__all__ = [
    "OutOfTimeError",
    "Probe",
    "confirm",
    "probe",
    "suspects",
]
