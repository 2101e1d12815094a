"""What would be right for a tensor, as code that a user can paste: `model` is the linted model.

The code is run as it stands when a remedy is proven, so it names tensors in full.
"""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING

from initlint.finding import Suggestion
from initlint.theory import expected_std

if TYPE_CHECKING:
    from initlint.evidence import Tensor

_RECTIFIED = frozenset({"relu", "relu6", "rrelu", "gelu", "silu", "mish", "hardswish", "elu", "celu"})


def redraw(*weights: Tensor) -> Suggestion | None:
    """Draws whose scale fits the true fan-in and the activation that follows; None if one is unknown."""
    draws = [_draw(weight) for weight in weights]
    known = [draw for draw in draws if draw is not None]
    return Suggestion("\n".join(known)) if known and len(known) == len(draws) else None


def _draw(weight: Tensor) -> str | None:
    """He et al. (2015), §2.2 before rectifiers (the smooth ones among them, whose gain is within 10 %).

    Else LeCun et al. (1998), §4.6; the gain of tanh and SELU as in `initlint.theory.gain`.
    """
    use = weight.use
    if use is None or not use.fan_in or _derived(weight.name):
        return None
    target = expression(weight.name)
    readable = weight.shape[1:2] and prod(weight.shape[1:]) == use.fan_in and not use.transposed
    activation = use.activation or "none"
    if readable and activation in _RECTIFIED:
        return f'nn.init.kaiming_normal_({target}, nonlinearity="relu")'
    if readable and activation == "none":
        return f'nn.init.kaiming_normal_({target}, nonlinearity="linear")'
    return f"nn.init.normal_({target}, std={expected_std(use.fan_in, activation):.3g})"


def fill(tensor: Tensor, value: float) -> Suggestion | None:
    """One value throughout."""
    if _derived(tensor.name):
        return None
    call = {0.0: "zeros_({})", 1.0: "ones_({})"}.get(value, f"constant_({{}}, {value:.3g})")
    return Suggestion(f"nn.init.{call.format(expression(tensor.name))}")


def clear(table: Tensor, row: int) -> Suggestion | None:
    """Zeros in one row."""
    return None if _derived(table.name) else Suggestion(f"{expression(table.name)}.data[{row}] = 0.0")


def expression(name: str) -> str:
    """A tensor's name as an expression: blocks.0.fc.weight is model.blocks[0].fc.weight."""
    parts = name.split(".")
    if not all(re.fullmatch(r"[0-9]+|[^\W0-9]\w*", part) for part in parts):
        return f"model.get_parameter({name!r})"
    return "model" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts)


def _derived(name: str) -> bool:
    """The tensor is the original of a parametrised weight: what is written there is not what is used."""
    return ".parametrizations." in f".{name}"
