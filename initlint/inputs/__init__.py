"""What a model is fed: given, hinted, or searched for."""

from initlint.inputs.sources import NotFound, find, from_shape, given

__all__ = [
    "NotFound",
    "find",
    "from_shape",
    "given",
]
