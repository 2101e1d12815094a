"""One attempt at a call: the output, or the operator that raised, its operands, and where those came from."""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from initlint.inputs.call_spec import Call, Maker, Path
from initlint.runtime import drained, layer, operands, preserved, seed_generators, set_mode

ORIGIN = "_initlint_origin"  # attribute of tensors made from arguments: the paths of those arguments


class UnbatchedError(Exception):
    """A layer got one sample where it can take a batch: it would run, but on something else than meant."""

    def __init__(self, tensor: torch.Tensor, rank: int) -> None:
        super().__init__(f"a tensor of {rank} dimensions was expected, not {tensor.dim()}")
        self.tensor = tensor
        self.rank = rank


@dataclass(frozen=True, slots=True)
class Success:
    """The call ran."""

    output: Any
    tensors: Mapping[Path, torch.Tensor]
    calls: int


@dataclass(frozen=True, slots=True)
class Failure:
    """The call raised. `function` with its arguments is the torch function that did, if one did."""

    error: Exception
    calls: int  # of torch functions up to there: how far it came
    function: Any = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[Path, torch.Tensor] = field(default_factory=dict)
    frames: tuple[tuple[FrameType, int], ...] = ()  # from the model's forward inwards, with line numbers


def refusal(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, seed: int = 0) -> str:
    """Why the model does not run in training mode, "" if it does; afterwards it is as before."""
    with preserved(model, args, kwargs), torch.enable_grad(), _silence():
        seed_generators(seed)
        set_mode(model, training=True)
        try:
            drained(model(*args, **kwargs))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return ""


def attempt(
    model: nn.Module,
    call: Call,
    parameters: Mapping[str, inspect.Parameter],
    maker: Maker,
    *,
    training: bool = True,
    change: Callable[[Mapping[Path, torch.Tensor]], None] = lambda tensors: None,
) -> Success | Failure:
    """Run the model once, as the probe will; afterwards it is as before.

    `change` may write to the arguments, which it gets by path.
    """
    args, kwargs, tensors = maker.arguments(call, parameters)
    change(tensors)
    for path, tensor in tensors.items():
        setattr(tensor, ORIGIN, frozenset({path}))
    observer = _Observer()
    with preserved(model), torch.enable_grad(), _silence(), _batch_check():
        seed_generators(maker.seed)
        set_mode(model, training)
        try:
            with observer:
                output = drained(model(*args, **kwargs))
        except Exception as error:
            function, operands, options = observer.raised if observer.error is error else (None, (), {})
            return Failure(error, observer.calls, function, operands, options, tensors, tuple(_frames(error)))
    return Success(output, tensors, observer.calls)


class _Observer(TorchFunctionMode):
    """Counts torch functions, remembers the one that raised, and passes the origin of tensors on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.error: BaseException | None = None
        self.raised: tuple[Any, tuple[Any, ...], Mapping[str, Any]] = (None, (), {})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.calls += 1
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            if error is not self.error:
                self.error, self.raised = error, (func, args, kwargs)
            raise
        origin = origins(args, kwargs)
        for tensor in operands(result, torch.Tensor) if origin else ():
            setattr(tensor, ORIGIN, origins(tensor) | origin)
        return result


def origins(*values: Any) -> frozenset[Path]:
    """The arguments that tensors in `values` were made from."""
    tensors = operands(values, torch.Tensor)
    return frozenset[Path]().union(*(getattr(tensor, ORIGIN, ()) for tensor in tensors))


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename != __file__:
            yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


@contextmanager
def _batch_check() -> Iterator[None]:
    """Layers that also take a single sample raise UnbatchedError for one."""

    def check(module: nn.Module, args: tuple[Any, ...]) -> None:
        if not args or not isinstance(args[0], torch.Tensor):
            return
        rank = layer(module).rank
        if rank == args[0].dim() + 1:
            raise UnbatchedError(args[0], rank)

    handle = nn.modules.module.register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _silence() -> Iterator[None]:
    """Attempts print nothing and warn of nothing."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
