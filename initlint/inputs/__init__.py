"""Inputs of a model: given by the user, named by the model (a hint), or searched for."""

from initlint.inputs.sources import NotFound, find, from_shape, given

__all__ = [
    "NotFound",
    "find",
    "from_shape",
    "given",
]
