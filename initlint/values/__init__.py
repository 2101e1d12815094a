"""The values of tensors: statistics, and the schemes that fit."""

from initlint.values.schemes import schemes
from initlint.values.statistics import read

__all__ = [
    "read",
    "schemes",
]
