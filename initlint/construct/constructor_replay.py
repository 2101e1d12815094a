"""Lets the constructors of common torch.nn layers run unwatched, once it is known what they write.

Most operations of a build are the ones that Linear, Conv and the norms run on their own tensors, and every
instance runs the same ones. Each constructor is watched the first time and its events are repeated for later
instances: only their own tensors differ. Whatever could make it act differently is part of the
key (a replaced `reset_parameters` or torch.nn.init function, flags such as `bias`), and under any further
mode it is watched as usual.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from initlint.construct.events import Event
    from initlint.construct.recorder import Recorder

_BASES: tuple[Any, ...] = (
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
)
_METHODS = ("reset_parameters", "reset_running_stats", "register_parameter", "register_buffer", "__setattr__")
_C: Any = torch._C
_AVAILABLE = all(
    hasattr(_C, name)
    for name in (
        "_len_torch_dispatch_stack",
        "_len_torch_function_stack",
        "_pop_torch_dispatch_stack",
        "_push_on_torch_dispatch_stack",
    )
)
Template = dict[str, tuple["Event", ...]]


class Constructors:
    """Context manager: the constructors in `_BASES` repeat what `recorder` learned of them."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.templates: dict[tuple[Any, ...], Template | None] = {}
        self.methods: dict[type, tuple[Any, ...]] = {}
        self.wrapped: dict[Any, Any] = {}
        self.wrappers: set[Any] = set()

    def __enter__(self) -> Constructors:
        for base in _BASES if _AVAILABLE else ():
            self.wrapped[base] = base.__init__ = self._wrap(base, base.__init__)
            self.wrappers.add(base.__init__)
        return self

    def __exit__(self, *details: object) -> None:
        for base, wrapper in self.wrapped.items():
            if base.__init__ is wrapper:  # else somebody wrapped it in turn
                base.__init__ = wrapper.__wrapped__

    def _wrap(self, base: Any, original: Callable[..., None]) -> Any:
        recorder, templates = self.recorder, self.templates

        @functools.wraps(original)
        def __init__(module: nn.Module, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            if not recorder.alone():
                return original(module, *args, **kwargs)
            key = self._key(base, type(module), args, kwargs)
            if key not in templates:
                original(module, *args, **kwargs)
                templates[key] = recorder.learn(module)
                return None
            template = templates[key]
            if template is None:
                return original(module, *args, **kwargs)
            recorder.unwatched = True
            _C._pop_torch_dispatch_stack(None)
            try:
                with recorder.hush():
                    original(module, *args, **kwargs)
            finally:
                _C._push_on_torch_dispatch_stack(recorder)
                recorder.unwatched = False
            recorder.repeat(module, template, sys._getframe())
            return None

        wrapper: Any = __init__
        recorder.constructor(wrapper.__code__)
        return wrapper

    def _key(self, base: Any, cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        methods = self.methods.get(cls)
        if methods is None:
            methods = self.methods[cls] = tuple(getattr(cls, name, None) for name in _METHODS)
        init = nn.init
        return (
            base,
            methods,
            (init.kaiming_uniform_, init.uniform_, init.ones_, init.zeros_),
            tuple(value if value is None or type(value) is bool else ... for value in args),
            tuple((k, v) for k, v in kwargs.items() if v is None or type(v) is bool),
        )
