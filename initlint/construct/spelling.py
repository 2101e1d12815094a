"""Names of recorded operations and of their arguments, as a user spells them, and how values came in."""

from __future__ import annotations

import ast
import dis
import linecache
from typing import NamedTuple

from torch import nn

from initlint.construct.events import Event
from initlint.construct.operator_effects import Operator
from initlint.evidence import Via
from initlint.source import Instruction, position

_INITIALISERS = frozenset(name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_"))
_SPELLED = {"_to_copy": "Tensor.to", "clone": "Tensor.clone"}


class Operation(NamedTuple):
    """What ran: "nn.init.normal_", "Tensor.copy_", "torch.randn", "load_state_dict"."""

    spelled: str
    via: Via

    @property
    def function(self) -> str:
        """Its plain name: "normal_"."""
        return self.spelled.rpartition(".")[2]


def operation(event: Event) -> Operation:
    """The operation of an event, as the user called it."""
    if event.default:
        return Operation(_operation(event).spelled, "constructor")
    return _operation(event)


def _operation(event: Event) -> Operation:
    if event.inner[0].co_name == "__deepcopy__":
        return Operation("copy.deepcopy", "clone")
    if event.called is not None:
        code = event.called
        found = _function(code.co_name, code.co_filename.replace("\\", "/"), code.co_qualname)
        if found is not None:
            return found
    elif event.lines and _is_assignment(event.lines[0]):
        return Operation("Tensor.__setitem__", "assignment")
    operator = event.operator
    name = operator.name
    if name == "lift_fresh":
        direct = event.lines and event.called is None
        return Operation(_called(event.lines[0]) if direct else "torch.tensor", "allocation")
    if name in _SPELLED:
        return Operation(_SPELLED[name], "clone")
    if not name.endswith("_"):
        return Operation(f"torch.{name}", "allocation")
    return Operation(f"Tensor.{name}", _in_place(operator))


def _in_place(operator: Operator) -> Via:
    if operator.name == "copy_":
        return "copy"
    if operator.passing:
        return "assignment"
    return "initialiser" if operator.random or operator.constant else "arithmetic"


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


def _function(name: str, path: str, qualified: str) -> Operation | None:
    """The torch function (or a stand-in for one) that the user's line called."""
    if name in _INITIALISERS and path.endswith(("/init.py", "/weight_init.py", "/initialization.py")):
        return Operation(f"nn.init.{name}", "initialiser")
    if path.endswith("torch/nn/init.py"):
        return Operation(f"nn.init.{name}", "initialiser")
    if path.endswith("/weight_init.py"):
        return Operation(f"timm.layers.{name}", "initialiser")
    if path.endswith("torch/nn/modules/module.py"):
        loads = name in ("load_state_dict", "_load_from_state_dict")
        return Operation("load_state_dict", "load") if loads else Operation(f"Module.{name}", "method")
    if path.endswith("/copy.py"):
        return Operation(f"copy.{name}", "clone")
    if "/torch/nn/" not in path:
        return None
    via: Via = "reset" if qualified.endswith(".reset_parameters") else "method"
    return Operation(qualified.replace(".<locals>", ""), via)


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
