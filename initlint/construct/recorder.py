"""Watches a build: who allocated, who wrote, from which tensors, at which line.

One dispatch mode sees every operation on tensors below autograd; the registration hooks of torch.nn see
which module got which parameter. What is kept of an operation is one flat tuple; all reading of it is left
to `provenance`. Storages, not tensors, are the identity: views, `.data` and Parameters share them.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import CodeType, FrameType, TracebackType
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registration
from torch.utils._python_dispatch import TorchDispatchMode

from initlint.construct.constructor_replay import Constructors
from initlint.construct.events import FRAMES, LINES, Event, Module, Storage, Tying
from initlint.construct.operator_effects import Operator, learn
from initlint.construct.patches import Attributes, Seedings
from initlint.runtime import operands
from initlint.source import Instruction, Role, role

_event: Callable[[tuple[Any, ...]], Event] = partial(tuple.__new__, Event)
_operators: dict[int, Operator] = {}
_roles: dict[int, Role] = {}
_codes: list[CodeType] = []  # kept so that the ids above stay theirs


def _learn(operation: Any) -> Operator:
    found = _operators[id(operation)] = learn(operation)
    return found


def _role(code: CodeType) -> Role:
    _codes.append(code)
    found = _roles[id(code)] = role(code)
    return found


def _line(frame: FrameType | None) -> Instruction | None:
    """The innermost instruction outside torch, from this frame outwards."""
    while frame is not None:
        code = frame.f_code
        found = _roles.get(id(code)) or _role(code)
        if found == "user":
            return code, frame.f_lasti
        if found == "own":
            break
        frame = frame.f_back
    return None


def _within_torch(
    frame: FrameType | None,
) -> tuple[Role, FrameType | None, FrameType | None, FrameType | None]:
    """Torch's frames from this one outwards: the role of the outermost, it, and that of an initialiser.

    Last comes the user's frame that called the outermost; None where initlint itself did.
    """
    what: Role = "user"
    outermost: FrameType | None = None
    initialiser: FrameType | None = None
    while frame is not None:
        code = frame.f_code
        found = _roles.get(id(code)) or _role(code)
        if found == "user":
            break
        if found == "own":
            return what, outermost, initialiser, None
        if found == "init":
            initialiser = frame
        what, outermost, frame = found, frame, frame.f_back
    return what, outermost, initialiser, frame


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager under which the target is imported and built.

    `hush` makes other listeners deaf to constructors that run unwatched.
    """

    def __init__(self, hush: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.hush = hush
        self.order = 0
        self.storages: dict[int, Storage] = {}
        self.writes: list[tuple[Storage, int]] = []  # explicit ones: storage and position among its events
        self.reads: list[tuple[Storage, int]] = []  # values that Python code looked at
        self.modules: dict[int, Module] = {}
        self.ties: list[Tying] = []
        self._parameters: dict[int, tuple[weakref.ref[torch.Tensor], Module, str]] = {}
        self._constructors: dict[type, CodeType | None] = {}
        self._handles: list[Any] = []
        self._limit = 8192
        self.unwatched = False  # inside a constructor whose events will be repeated
        self._shortcuts = Constructors(self)
        self.attributes = Attributes(_line, self._owned)
        self.seedings = Seedings(_lines, lambda: self.order)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch wraps __torch_dispatch__ in something that imports a thousand modules.
        return False

    def __enter__(self) -> Recorder:
        self._handles = [
            registration.register_module_parameter_registration_hook(self._on_parameter),
            registration.register_module_module_registration_hook(self._on_module),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        self._shortcuts.__enter__()
        self.attributes.__enter__()
        self.seedings.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seedings.__exit__()
        self.attributes.__exit__()
        self._shortcuts.__exit__()
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def close(self) -> None:
        """Let go of the storages' addresses."""
        for storage in self.storages.values():
            _release(storage)
        self.storages.clear()

    # ------------------------------------------------------------ operations

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        operator = _operators.get(id(operation)) or _learn(operation)
        effect = operator.effect
        if effect == "view":
            return operation(*args, **kwargs) if kwargs else operation(*args)
        if effect == "fill" or effect == "new":
            result = operation(*args, **kwargs) if kwargs else operation(*args)
            storage = self.storage(result)
            if storage is not None:
                self._note(storage, operator, result, (), args[1:], sys._getframe(1), effect == "fill")
            return result
        return self._general(operator, args, kwargs or {}, sys._getframe(1))

    def _general(
        self, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType
    ) -> Any:
        effect = operator.effect
        inputs = tuple(
            (storage, len(storage))
            for tensor in operands((args, kwargs), torch.Tensor)
            if (storage := self.storage(tensor)) is not None
        )
        before = _multiplied(operator, args)
        result = operator.overload(*args, **kwargs)
        if effect == "read":
            self.reads.extend(inputs)
        elif effect != "set":
            targets = result
            if effect == "write":
                targets = [args[w] if isinstance(w, int) else kwargs.get(w) for w in operator.written]
            scalars = tuple(a for a in args if not isinstance(a, (torch.Tensor, list, tuple)))
            facts = _facts(operator, args, result, before)
            read = {id(storage) for storage, _ in inputs}
            for tensor in operands(targets, torch.Tensor):
                storage = self.storage(tensor)
                # A result in the memory of an input is a view after all (aten._unsafe_view).
                if storage is not None and (effect == "write" or id(storage) not in read):
                    self._note(storage, operator, tensor, inputs, scalars, frame, effect == "write", facts)
        return result

    def _note(
        self,
        storage: Storage,
        operator: Operator,
        tensor: torch.Tensor,
        inputs: tuple[tuple[Storage, int], ...],
        scalars: tuple[Any, ...],
        frame: FrameType | None,
        written: bool,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Append an event, with the stack from the frame that ran the operation outwards."""
        numel = tensor.numel()
        part = None
        if numel < storage.numel:
            part = (tensor.storage_offset(), tuple(tensor.size()), tensor.stride())
        assert frame is not None
        inner = (frame.f_code, frame.f_lasti)
        what, outermost, initialiser, frame = _within_torch(frame)
        default = what == "constructor"
        arguments = facts
        called: CodeType | None = None
        lines: tuple[Instruction, ...] = ()
        if default:
            called = initialiser.f_code if initialiser is not None else None
            lines = ((frame.f_code, frame.f_lasti),) if frame is not None else ()
        else:
            if outermost is not None:
                called = outermost.f_code
                if what == "init":
                    arguments = {k: v for k, v in outermost.f_locals.items() if type(v) in _SCALARS}
            lines = _lines(frame)
            if written:
                self.writes.append((storage, len(storage)))
        self.order += 1
        storage.append(
            _event(
                (
                    self.order,
                    operator,
                    numel,
                    part,
                    inputs,
                    scalars,
                    default,
                    called,
                    inner,
                    arguments,
                    lines,
                )
            )
        )

    def storage(self, tensor: torch.Tensor) -> Storage | None:
        """The record of the tensor's memory; None for tensors without any (sparse, lazy, some subclasses)."""
        try:
            memory: Any = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError, ValueError):
            return None
        key = memory._cdata
        found = self.storages.get(key)
        if found is None:
            found = self.storages[key] = Storage()
            found.weak = memory._weak_ref()
            size = tensor.element_size()
            found.numel = memory.nbytes() // size if size else 0
            found.slots = ()
            if len(self.storages) > self._limit:
                self._sweep()
        return found

    def _sweep(self) -> None:
        """Forget storages that are gone; those that others were computed from live on in the events."""
        for key, storage in list(self.storages.items()):
            if storage.weak is not None and torch.UntypedStorage._expired(storage.weak):
                _release(storage)
                del self.storages[key]
        self._limit = max(8192, 2 * len(self.storages))

    # ------------------------------------------------------------ constructors of torch.nn

    def alone(self) -> bool:
        """This recorder is the only mode at work in this thread."""
        modes = torch._C
        return (
            modes._len_torch_dispatch_stack() == 1
            and modes._len_torch_function_stack() == 0
            and modes._get_dispatch_stack_at(0) is self
        )

    def constructor(self, code: CodeType) -> None:
        """Count frames of this code among the constructors of torch.nn."""
        _codes.append(code)
        _roles[id(code)] = "constructor"

    def learn(self, module: nn.Module) -> dict[str, tuple[Event, ...]] | None:
        """What the constructor that has just run did to the module's own tensors; None if more than that."""
        found = {}
        for name, tensor in _own(module):
            storage = self.storage(tensor)
            if storage is None or not all(e.default and not e.inputs and e.part is None for e in storage):
                return None
            found[name] = tuple(storage)
        return found

    def repeat(self, module: nn.Module, template: dict[str, tuple[Event, ...]], frame: FrameType) -> None:
        """Note for this module's tensors what the same constructor, called at `frame`, did to another's."""
        record = self.modules[id(module)] = Module(module)
        record.constructed = self._constructed(type(module), frame)
        lines = () if record.constructed is None else (record.constructed,)
        order = self.order
        for name, tensor in _own(module):
            storage = self.storage(tensor)
            if storage is None:
                continue
            if name in module._parameters:
                storage.slots = ((record, name),)
                self._parameters[id(tensor)] = (weakref.ref(tensor), record, name)
            numel = tensor.numel()
            for _, operator, _, _, _, _, _, called, inner, _, _ in template.get(name, ()):
                order += 1
                storage.append(
                    _event((order, operator, numel, None, (), (), True, called, inner, None, lines))
                )
        self.order = order

    # ------------------------------------------------------------ registrations

    def registered(self, tensor: torch.Tensor) -> Module | None:
        """The module that the very same Parameter was first registered in."""
        found = self._parameters.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None

    def _owned(self, tensor: torch.Tensor, value: torch.Tensor) -> bool:
        """`value` lies in the memory of a registered parameter, and not in that of `tensor`."""
        memory = self.storage(value)
        return memory is not None and bool(memory.slots) and memory is not self.storage(tensor)

    def _on_parameter(self, owner: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is None or self.unwatched:
            return
        record = self.modules.get(id(owner))
        if record is None or record.reference() is not owner:
            record = self._new(owner)
        place = (record, name)
        storage = self.storage(parameter)
        if storage is not None:
            storage.slots += (place,)
        before = self._parameters.get(id(parameter))
        if before is None or before[0]() is not parameter:
            self._parameters[id(parameter)] = (weakref.ref(parameter), record, name)
            if storage is not None and len(storage.slots) > 1:
                self.attributes.lend(parameter, sys._getframe(1))
        elif before[1:] != place:
            self.ties.append(Tying(before[0], before[1:], place, _line(sys._getframe(1))))

    def _on_module(self, owner: nn.Module, name: str, child: nn.Module | None) -> None:
        if child is None:
            return
        parent = self.modules.get(id(owner))
        if parent is None or parent.reference() is not owner:
            parent = self._new(owner)
        record = self.modules.get(id(child))
        if record is None or record.reference() is not child:
            record = self.modules[id(child)] = Module(child)
        record.parents.append((parent, name))
        if record.registered is None:
            record.registered = _line(sys._getframe(1))

    def _new(self, module: nn.Module) -> Module:
        record = self.modules[id(module)] = Module(module)
        record.constructed = self._constructed(type(module), sys._getframe(2))
        return record

    def _constructed(self, cls: type[nn.Module], frame: FrameType | None) -> Instruction | None:
        """The line outside torch that is constructing the module; None when it was constructed before."""
        if cls not in self._constructors:
            constructor: Any = cls.__init__
            while hasattr(constructor, "__wrapped__") and constructor not in self._shortcuts.wrappers:
                constructor = constructor.__wrapped__
            self._constructors[cls] = getattr(constructor, "__code__", None)
        code = self._constructors[cls]
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back
        return _line(frame.f_back) if frame is not None else None


_SCALARS = frozenset({int, float, str, bool})


def _multiplied(operator: Operator, args: tuple[Any, ...]) -> torch.Tensor | None:
    """The exact product of a half precision tensor and a number that is about to be taken, else None."""
    if operator.name not in ("mul", "mul_", "div", "div_") or type(args[1]) not in (int, float):
        return None
    tensor = args[0]
    if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.float16 or tensor.is_meta or not args[1]:
        return None
    factor = 1 / args[1] if operator.name.startswith("div") else args[1]
    product: torch.Tensor = tensor.detach().double() * factor
    return product


def _facts(
    operator: Operator, args: tuple[Any, ...], result: Any, exact: torch.Tensor | None
) -> dict[str, Any] | None:
    """What the values themselves say of a conversion or a product with a number; None for the rest."""
    match operator.name:
        case "copy_":
            return _flushed(args[1], args[0])
        case "_to_copy":
            return _flushed(args[0], result)
        case "mul" | "mul_" | "div" | "div_" if type(args[1]) in (int, float):
            return {"other": args[1]} | ((exact is not None and _flushed(exact, result)) or {})
        case "minimum" | "maximum":
            bounds = [b for b in map(_constant, args[:2]) if b is not None]
            return {"max" if operator.name == "minimum" else "min": bounds[0]} if len(bounds) == 1 else None
    return None


def _constant(tensor: torch.Tensor) -> float | None:
    """The one value of a tensor that holds no other."""
    values = tensor.detach()
    plain = type(values) is torch.Tensor and not values.is_meta and values.layout == torch.strided
    if not plain or not values.numel():
        return None
    low, high = torch.aminmax(values)
    return float(low) if low == high else None


def _flushed(source: torch.Tensor, target: torch.Tensor) -> dict[str, Any] | None:
    """What a conversion to a smaller floating type made zero: how many values, and the largest of them."""
    if not (source.is_floating_point() and target.is_floating_point()) or source.is_meta or target.is_meta:
        return None
    if torch.finfo(source.dtype).tiny >= torch.finfo(target.dtype).tiny or source.layout != torch.strided:
        return None
    values = source.detach()
    gone = (target.detach() == 0) & (values != 0)
    count = int(gone.sum())
    return {"flushed": count, "largest": float(torch.where(gone, values, 0).abs().max())} if count else None


def _lines(frame: FrameType | None) -> tuple[Instruction, ...]:
    lines: list[Instruction] = []
    role_of = _roles.get
    for _ in range(FRAMES):
        if frame is None:
            break
        code = frame.f_code
        found = role_of(id(code)) or _role(code)
        if found == "user":
            lines.append((code, frame.f_lasti))
            if len(lines) == LINES:
                break
        elif found == "own":
            break
        frame = frame.f_back
    return tuple(lines)


def _own(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for tensors in (module._parameters, module._buffers):
        for name, tensor in tensors.items():
            if tensor is not None:
                yield name, tensor


def _release(storage: Storage) -> None:
    if storage.weak is not None:
        memory: Any = torch.UntypedStorage
        memory._free_weak_ref(storage.weak)
        storage.weak = None
