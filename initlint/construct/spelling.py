"""Names of recorded operations and of their arguments, as a user spells them."""

from __future__ import annotations

import ast
import dis
import linecache

from torch import nn

from initlint.construct.events import Event
from initlint.source import Instruction, position

_INITIALISERS = frozenset(name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_"))
_SPELLED = {"_to_copy": "Tensor.to", "clone": "Tensor.clone", "resize_": "Tensor.resize_"}


def operation(event: Event) -> str:
    """The operation: "nn.init.normal_", "Tensor.copy_", "torch.randn", "load_state_dict"."""
    if event.inner[0].co_name == "__deepcopy__":
        return "copy.deepcopy"
    if event.called is not None:
        code = event.called
        spelled = _function(code.co_name, code.co_filename.replace("\\", "/"), code.co_qualname)
        if spelled is not None:
            return spelled
    elif event.lines and _is_assignment(event.lines[0]):
        return "Tensor.__setitem__"
    name = event.operator.name
    if name == "lift_fresh":
        direct = event.lines and event.called is None
        return _called(event.lines[0]) if direct else "torch.tensor"
    if name in _SPELLED:
        return _SPELLED[name]
    return f"Tensor.{name}" if name.endswith("_") else f"torch.{name}"


def arguments(event: Event) -> dict[str, float | int | str | bool]:
    """Scalar arguments: those of the torch.nn.init function, else the operator's own; none of defaults."""
    if event.arguments is not None:
        return dict(event.arguments)
    if event.default:
        return {}
    if event.operator.name == "lift_fresh":
        return _literal(event.lines[0]) if event.lines and event.called is None else {}
    return {
        name: value
        for name, value in zip(event.operator.arguments, event.scalars, strict=False)
        if isinstance(value, (bool, int, float, str))
    }


def _function(name: str, path: str, qualified: str) -> str | None:
    """The torch function (or a stand-in for one) that the user's line called."""
    if name in _INITIALISERS and path.endswith(("/init.py", "/weight_init.py", "/initialization.py")):
        return f"nn.init.{name}"
    if path.endswith("torch/nn/init.py"):
        return f"nn.init.{name}"
    if path.endswith("/weight_init.py"):
        return f"timm.layers.{name}"
    if path.endswith("torch/nn/modules/module.py"):
        return "load_state_dict" if name in ("load_state_dict", "_load_from_state_dict") else f"Module.{name}"
    if path.endswith("/copy.py"):
        return f"copy.{name}"
    return qualified.replace(".<locals>", "") if "/torch/nn/" in path else None


def _is_assignment(line: Instruction) -> bool:
    """The instruction is `something[index] = value`."""
    code, offset = line
    return 0 <= offset < len(code.co_code) and dis.opname[code.co_code[offset]] == "STORE_SUBSCR"


def _called(line: Instruction) -> str:
    """What an instruction calls, as far as its source tells: "torch.from_numpy"."""
    call = _call(line)
    if call is not None and isinstance(call.func, (ast.Attribute, ast.Name)):
        return ast.unparse(call.func)
    return "torch.tensor"


def _literal(line: Instruction) -> dict[str, float | int | str | bool]:
    """The number that an instruction makes a tensor of, where its source has it: torch.tensor(1e-8)."""
    call = _call(line)
    if call is None or not call.args:
        return {}
    try:
        value = ast.literal_eval(call.args[0])
    except ValueError:
        return {}
    return {"data": value} if isinstance(value, (bool, int, float)) else {}


def _call(line: Instruction) -> ast.Call | None:
    """The call that an instruction makes, if it stands on one line of a readable source."""
    first, last, start, end = position(line)
    text = linecache.getline(line[0].co_filename, first).encode()
    if first != last or start < 0 or not text:
        return None
    try:
        call = ast.parse(text[start:end].decode(errors="replace").strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None
    return call if isinstance(call, ast.Call) else None
