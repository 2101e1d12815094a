"""Processes, limits, and what goes between them."""

from initlint.workers import memory, pool
from initlint.workers.pool import run
from initlint.workers.wire import Task

__all__ = [
    "Task",
    "memory",
    "pool",
    "run",
]
