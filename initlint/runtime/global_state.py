"""The state of the process that a model may change: generators, modes, default dtype and device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

from initlint.runtime.seeds import generator_states


def put_back(restores: Iterable[Callable[[], object]]) -> None:
    """Call all of them, whatever some raise; raises the first error at the end."""
    first: BaseException | None = None
    for restore in restores:
        try:
            restore()
        except BaseException as error:
            first = first or error
    if first is not None:
        raise first


def global_state() -> Callable[[], None]:
    """A function that puts random generators and global flags back to their present state."""
    restores: list[Callable[[], object]] = [generator_states()]

    def remember(get: Callable[[], Any], put: Callable[[Any], object]) -> None:
        value = get()
        restores.append(lambda: put(value))

    remember(torch.is_grad_enabled, torch.set_grad_enabled)
    remember(torch.get_default_dtype, torch.set_default_dtype)
    remember(_default_device, _set_default_device)
    remember(torch.get_num_threads, torch.set_num_threads)
    remember(torch.get_deterministic_debug_mode, _set_deterministic)
    remember(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
    remember(torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled)
    for kind in ("cpu", "cuda"):
        remember(partial(_autocast, kind), _set_autocast)
    remember(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly)
    for flag in ("enabled", "benchmark", "deterministic", "allow_tf32"):
        remember(partial(getattr, torch.backends.cudnn, flag), partial(setattr, torch.backends.cudnn, flag))

    return partial(put_back, restores)


def _set_deterministic(mode: int) -> None:
    # Setting the mode imports a lot the first time: only where it changed.
    if torch.get_deterministic_debug_mode() != mode:
        torch.set_deterministic_debug_mode(mode)


def _default_device() -> torch.device | None:
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    device: torch.device | None = None if context is None else context.device
    return device


def _set_default_device(device: torch.device | None) -> None:
    if _default_device() != device:
        torch.set_default_device(device)


def _autocast(kind: str) -> tuple[str, bool, torch.dtype]:
    return kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)


def _set_autocast(state: tuple[str, bool, torch.dtype]) -> None:
    kind, enabled, dtype = state
    torch.set_autocast_enabled(kind, enabled)
    torch.set_autocast_dtype(kind, dtype)
