"""What was measured about a model: frozen records of floats, strings and shapes."""

from initlint.evidence.build import (
    LostWrite,
    MemberTest,
    Miss,
    ModuleRecord,
    Provenance,
    Rebuild,
    Seeding,
    Statement,
    Tie,
    Unregistered,
    Via,
    Write,
)
from initlint.evidence.model import Evidence, Tensor, UsedTensor, Weight, record_class
from initlint.evidence.signals import (
    Confirmation,
    Coupling,
    Gradient,
    Logits,
    Scale,
    Shape,
    Signal,
    SignalKind,
)
from initlint.evidence.use import Step, Use, Wiring
from initlint.evidence.values import Padding, Scheme, Statistics

__all__ = [
    "Confirmation",
    "Coupling",
    "Evidence",
    "Gradient",
    "Logits",
    "LostWrite",
    "MemberTest",
    "Miss",
    "ModuleRecord",
    "Padding",
    "Provenance",
    "Rebuild",
    "Scale",
    "Scheme",
    "Seeding",
    "Shape",
    "Signal",
    "SignalKind",
    "Statement",
    "Statistics",
    "Step",
    "Tensor",
    "Tie",
    "Unregistered",
    "Use",
    "UsedTensor",
    "Via",
    "Weight",
    "Wiring",
    "Write",
    "record_class",
]
