"""Whether a model can be read at all: its modules form a tree, and it lists its parameters.

What a user's class computes when it is asked for an attribute may raise anything; that is no reason to
stop, unless it is the parameters that are asked for.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def attribute(holder: object, name: str) -> Any:
    """The attribute, None where there is none or where asking for it raises."""
    try:
        return getattr(holder, name, None)
    except Exception:  # whatever the user's property raises, it has no value to read
        return None


def set_mode(model: nn.Module, training: bool) -> None:
    """Training or evaluation mode; a model that refuses keeps the one it has."""
    try:
        model.train(training)
    except Exception:  # an exported program has one mode only
        return


def fault(model: nn.Module) -> str | None:
    """Why no model of this kind can be trained or linted, in one sentence; None if it can."""
    if attribute(model, "_modules") is None:
        return f"{type(model).__name__}.__init__ does not call super().__init__(): it has no parameters"
    cycle = _cycle(model)
    if cycle is not None:
        inner, outer = cycle
        return (
            f"the model contains itself: {inner} is {outer or 'the model'} again, so train(), to() and "
            "state_dict() never end; keep the reference out of the submodules (in a tuple, or as a weakref)"
        )
    try:
        for listed in (model.named_modules(), model.named_parameters(), model.named_buffers()):
            for _ in listed:
                pass
    except Exception as error:
        what = str(error) or type(error).__name__
        return f"its modules, parameters and buffers cannot be listed: {what}"
    return None


def _cycle(model: nn.Module) -> tuple[str, str] | None:
    """The path of a module inside itself, and its path outside; None if there is none."""
    done: set[int] = set()
    above: dict[int, str] = {id(model): ""}
    walk = [(model, "", _children(model))]
    while walk:
        module, path, left = walk[-1]
        if not left:
            walk.pop()
            done.add(id(module))
            above.pop(id(module), None)
            continue
        name, child = left.pop()
        inner = f"{path}.{name}".lstrip(".")
        if id(child) in above:
            return inner, above[id(child)]
        if id(child) not in done:
            above[id(child)] = inner
            walk.append((child, inner, _children(child)))
    return None


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, m) for n, m in reversed(list(module._modules.items())) if m is not None]
