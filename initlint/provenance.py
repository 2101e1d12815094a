"""Reads a recorded build: which writes made each tensor of the model, and which ones came to nothing."""

from __future__ import annotations

import ast
import dis
import linecache
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import torch
from torch import nn

from initlint.evidence import LostWrite, Provenance, Tie, Write
from initlint.finding import Site
from initlint.recorder import Event, Module, Recorder, Storage, effect
from initlint.sites import Instruction, Positions, position

Kind = Literal["random", "constant", "copy", "transform", "unknown"]

_EMPTY = frozenset(
    ["empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted", "resize_"]
)
_CONSTANT = frozenset(
    [
        "zeros",
        "ones",
        "full",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "scalar_tensor",
        "zero_",
        "fill_",
        "zero",
        "fill",
        "masked_fill_",
        "_efficientzerotensor",
    ]
)
_COPIES = frozenset(
    [
        "copy_",
        "clone",
        "_to_copy",
        "copy",
        "index_put_",
        "lift_fresh",
        "_copy_from",
        "masked_scatter_",
        "scatter_",
    ]
)
# Operations that leave a constant constant.
_POINTWISE = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "neg",
        "clone",
        "_to_copy",
        "copy_",
        "expand",
        "repeat",
        "view",
        "reshape",
        "stack",
        "cat",
        "exp",
        "log",
        "sqrt",
        "rsqrt",
        "pow",
        "add_",
        "sub_",
        "mul_",
        "div_",
        "neg_",
        "exp_",
        "log_",
        "sqrt_",
        "pow_",
        "reciprocal",
        "abs",
        "slice",
        "select",
    ]
)
_INITIALISERS = frozenset(name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_"))
_MODULE = nn.Module.to.__code__.co_filename
_LOADERS = frozenset(
    [
        "load_state_dict",
        "from_pretrained",
        "load_state_dict_from_url",
        "load_checkpoint",
        "load_pretrained",
        "load",
        "load_file",
        "_load_from_state_dict",
        "_load_pretrained_model",
    ]
)


def name_of(event: Event) -> str:
    """The operator's name without namespace and overload: "normal_"."""
    return str(event.operation._schema.name.partition("::")[2])


class Reading:
    """What a recorder saw, read backwards from the tensors of the final model."""

    def __init__(self, recorder: Recorder, positions: Positions, poisoned: bool) -> None:
        self.recorder = recorder
        self.positions = positions
        self.poisoned = poisoned  # uninitialised memory was filled with NaN during the whole build
        self._kinds: dict[tuple[int, int], Kind] = {}
        self._tainted: dict[tuple[int, int], bool] = {}

    def site(self, instruction: Instruction | None) -> Site | None:
        """The line of an instruction."""
        return None if instruction is None else self.positions.site(instruction)

    # ------------------------------------------------------------ one event

    def operation(self, event: Event) -> str:
        """The operation as a user spells it."""
        name = name_of(event)
        called = event.called
        if event.inner[0].co_name == "__deepcopy__":
            return "copy.deepcopy"
        if called is not None:
            spelled = _spelled(called.co_name, called.co_filename, called.co_qualname)
            if spelled is not None:
                return spelled
        if event.lines and event.called is None and _is_setitem(event.lines[0]):
            return "Tensor.__setitem__"
        if name == "lift_fresh":
            return _call_text(event.lines[0]) if event.lines and called is None else "torch.tensor"
        if name.endswith("_") and not name.startswith("_"):
            return f"Tensor.{name}"
        return {"_to_copy": "Tensor.to", "clone": "Tensor.clone"}.get(name, f"torch.{name.removesuffix('_')}")

    def kind(self, storage: Storage, index: int) -> Kind:
        """What the event at `index` made of the storage: where its values come from."""
        key = (id(storage), index)
        found = self._kinds.get(key)
        if found is None:
            self._kinds[key] = "unknown"  # ends a cycle
            found = self._kinds[key] = self._kind(storage, index)
        return found

    def _kind(self, storage: Storage, index: int) -> Kind:
        event = storage[index]
        name = name_of(event)
        if torch.Tag.nondeterministic_seeded in event.operation.tags:
            return "random"
        if name in _EMPTY:
            return "unknown"
        if _copies(event):
            return "copy"
        inputs = {self.content(s, v) for s, v in event.inputs if s is not storage}
        if "random" in inputs:
            return "random"
        if not inputs:
            if name in _CONSTANT:
                return "constant"
            if name == "lift_fresh":
                return "constant" if event.numel == 1 else "copy"
            return "transform"
        if inputs == {"constant"} and (name in _POINTWISE or name in _CONSTANT):
            return (
                "constant"
                if name in _CONSTANT or name in ("copy_", "clone", "_to_copy") or not _in_place(name)
                else "transform"
            )
        return "copy" if name in _COPIES else "transform"

    def content(self, storage: Storage, version: int) -> Kind:
        """Where the values came from that a storage held after its first `version` events."""
        found: Kind = "unknown"
        for index in range(min(version, len(storage)) - 1, -1, -1):
            kind = self.kind(storage, index)
            event = storage[index]
            if kind == "random":
                return "random"
            if found == "unknown" or kind != "transform":
                found = kind if found in ("unknown", "transform") else found
            if event.part is None and not _updates(event):
                break
        return found

    def tainted(self, storage: Storage, version: int) -> bool:
        """Some of the values may still be memory that nobody wrote."""
        version = min(version, len(storage))
        key = (id(storage), version)
        if key not in self._tainted:
            self._tainted[key] = False
            self._tainted[key] = self._is_tainted(storage, version)
        return self._tainted[key]

    def _is_tainted(self, storage: Storage, version: int) -> bool:
        if version == 0:
            return False
        event = storage[version - 1]
        if name_of(event) in _EMPTY:
            return True
        if any(self.tainted(s, v) for s, v in event.inputs if s is not storage):
            return True
        if event.part is None and not _updates(event):
            return False
        return self.tainted(storage, version - 1)

    # ------------------------------------------------------------ tensors of the model

    def codes(self) -> frozenset[int]:
        """Ids of all code objects outside torch that stood in the stack of an operation."""
        return frozenset(
            id(code) for storage in self.recorder.everything() for event in storage for code, _ in event.lines
        )

    def known(self, tensor: torch.Tensor) -> bool:
        """Something that happened to the tensor's memory was seen."""
        return bool(self.recorder.storage(tensor))

    def made_at(self, tensors: Iterable[torch.Tensor]) -> dict[int, Site]:
        """Where tensors were made, by id."""
        sites = {}
        for tensor in tensors:
            storage = self.recorder.storage(tensor)
            if storage and storage[0].lines:
                sites[id(tensor)] = self.positions.site(storage[0].lines[0])
        return sites

    def provenances(
        self, tensors: Mapping[str, torch.Tensor], constructions: Mapping[str, Site | None]
    ) -> dict[str, Provenance]:
        """How every named tensor got its values; `constructions` are the lines that made the modules."""
        names: dict[int, str] = {}
        for name, tensor in tensors.items():
            storage = self.recorder.storage(tensor)
            if storage is None:
                continue
            names.setdefault(id(storage), name)
            # Copies of one tensor that is not in the model any more are copies of each other.
            for source, _ in self._ancestry(storage):
                names.setdefault(id(source), name)
        return {
            name: self._provenance(name, tensor, constructions.get(name.rpartition(".")[0]), names)
            for name, tensor in tensors.items()
        }

    def _provenance(
        self, name: str, tensor: torch.Tensor, construction: Site | None, names: Mapping[int, str]
    ) -> Provenance:
        storage = self.recorder.storage(tensor)
        if storage is None or not storage:
            return Provenance("external" if storage is not None else "unknown", construction=construction)
        first = storage[0]
        allocator = self.operation(first) if effect(first.operation)[0] in ("new", "compute") else "external"
        line = list(self._ancestry(storage))
        owners = (names.get(id(source)) for source, _ in line)
        copied = next((owner for owner in owners if owner is not None and owner != name), None)
        writes = tuple(w for source, version in reversed(line) for w in self._writes(source, version, None))
        writes += self._writes(storage, len(storage), tensor)
        unwritten = self._unwritten(storage, tensor)
        if not writes and not unwritten and self.poisoned and tensor.device.type != "meta" and tensor.numel():
            writes = (self._external(first),)
        return Provenance(
            allocator=allocator,
            allocation=self.site(first.lines[0]) if first.lines else None,
            construction=construction or (self.site(first.lines[0]) if first.lines else None),
            writes=writes,
            unwritten=unwritten,
            copied_from=copied,
            origins=self._origins(storage),
        )

    def _external(self, event: Event) -> Write:
        site = self.site(event.lines[0]) if event.lines else None
        return Write(event.order, "external", "unknown", site or Site("<unknown>", 0), elements=event.numel)

    def _unwritten(self, storage: Storage, tensor: torch.Tensor) -> int:
        if not self.tainted(storage, len(storage)) or tensor.device.type == "meta" or not tensor.numel():
            return 0
        if not self.poisoned:
            return 0 if any(effect(e.operation)[0] in ("fill", "write") for e in storage) else tensor.numel()
        return poison(tensor)

    def _ancestry(self, storage: Storage) -> Iterator[tuple[Storage, int]]:
        """Tensors, with their version, whose values were copied whole into this one: nearest first."""
        seen = {id(storage)}
        version = len(storage)
        while version and _copies(storage[version - 1]):
            storage, version = storage[version - 1].inputs[-1]
            if id(storage) in seen:
                return
            seen.add(id(storage))
            yield storage, version

    def _origins(self, storage: Storage) -> tuple[Write, ...]:
        """Writes of temporaries that the last write took its values from, nearest first."""
        found: list[Write] = []
        seen = {id(storage)}
        queue = list(storage[-1].inputs)
        while queue and len(found) < 8:
            source, version = queue.pop(0)
            if id(source) in seen or version == 0:
                continue
            seen.add(id(source))
            event = source[version - 1]
            if not event.default and event.lines:
                found.append(self.write(source, version - 1))
            queue.extend(event.inputs)
        return tuple(found)

    def _writes(self, storage: Storage, version: int, tensor: torch.Tensor | None) -> tuple[Write, ...]:
        """The writes that covered any of the tensor; the events of one call of torch.nn.init are one write."""
        extent = None
        if tensor is not None and tensor.numel() < storage.numel:
            extent = _extent(tensor.storage_offset(), tensor.size(), tensor.stride())
        writes: list[Write] = []
        group: list[int] = []
        for index, event in enumerate(storage[:version]):
            if (
                name_of(event) in _EMPTY
                or _moves(event)
                or (extent is not None and not _overlaps(event, extent))
            ):
                continue
            if group and not _same_call(storage[group[0]], event):
                writes.append(self._grouped(storage, group))
                group = []
            group.append(index)
        if group:
            writes.append(self._grouped(storage, group))
        return tuple(writes)

    def _grouped(self, storage: Storage, group: list[int]) -> Write:
        if len(group) == 1:
            return self.write(storage, group[0])
        kinds = [self.kind(storage, index) for index in group]
        kind: Kind = "random" if "random" in kinds else kinds[-1]
        return self.write(storage, group[-1], kind, max(storage[index].numel for index in group))

    def write(
        self, storage: Storage, index: int, kind: Kind | None = None, elements: int | None = None
    ) -> Write:
        """The record of one event."""
        event = storage[index]
        sites = tuple(self.positions.site(line) for line in event.lines)
        arguments = dict(event.arguments or {})
        if not arguments:
            arguments = _arguments(event)
        operation = self.operation(event)
        kind = kind or self.kind(storage, index)
        pretrained = kind in ("copy", "unknown") and self._loaded(event)
        return Write(
            order=event.order,
            operation=operation,
            kind=kind,
            site=sites[0] if sites else Site("<unknown>", 0),
            callers=sites[1:],
            arguments=arguments,
            elements=event.numel if elements is None else elements,
            default=event.default,
            pretrained=pretrained,
        )

    def _loaded(self, event: Event) -> bool:
        names = {code.co_name for code, _ in event.lines} | {event.inner[0].co_name}
        if event.called is not None:
            names.add(event.called.co_name)
        if not names & _LOADERS:
            return False
        return not any(effect(e.operation)[0] == "fill" for s, v in event.inputs[1:] for e in s[:v])

    # ------------------------------------------------------------ writes without effect

    def lost_writes(
        self,
        model: nn.Module,
        tensors: Mapping[str, torch.Tensor],
        strays: Iterable[torch.Tensor],
        ties: Iterable[Tie],
    ) -> tuple[LostWrite, ...]:
        """Explicit initialisations whose result is in no tensor that the model holds."""
        held = [s for t in (*tensors.values(), *strays) if (s := self.recorder.storage(t)) is not None]
        reached = self._reached(held)
        tied = {name for tie in ties for name in tie.names}
        paths = {id(module): path for path, module in model.named_modules()}
        found: dict[tuple[int, object], LostWrite] = {}
        for storage, index in self.recorder.writes:
            event = storage[index]
            if (
                reached.get(id(storage), 0) > index
                or not event.lines
                or not self._initialises(storage, index)
            ):
                continue
            key = (id(storage), event.lines)
            lost = self._lost(storage, index, tensors, paths, tied)
            if lost is not None:
                found[key] = lost
        return tuple(found.values())

    def _reached(self, held: Iterable[Storage]) -> dict[int, int]:
        """Storages whose values went into what the model holds, with the latest version that did."""
        reached: dict[int, int] = {}
        queue = [(storage, len(storage)) for storage in held]
        queue += self.recorder.reads
        while queue:
            storage, version = queue.pop()
            before = reached.get(id(storage), 0)
            if version > before:
                reached[id(storage)] = version
                for event in storage[before:version]:
                    queue.extend(event.inputs)
        return reached

    def _initialises(self, storage: Storage, index: int) -> bool:
        """The write is a call of torch.nn.init, or fills the whole tensor without regard to what it held."""
        event = storage[index]
        if event.arguments is not None:
            return True
        return event.part is None and not _updates(event)

    def _lost(
        self,
        storage: Storage,
        index: int,
        tensors: Mapping[str, torch.Tensor],
        paths: Mapping[int, str],
        tied: set[str],
    ) -> LostWrite | None:
        if storage.slots:
            return self._replaced(storage, index, tensors, paths, tied)
        source = self._parameter_behind(storage)
        if source is None:
            return None
        event = storage[0]
        owner, local = source.slots[-1]
        module = owner.reference()
        subject = _path(owner, paths)
        if "parametriz" in _file(event) or (event.called is not None and "weight_norm" in _file(event)):
            name = subject.partition(".parametrizations")[0]
            return LostWrite(
                self.write(storage, index), "parametrized", name, "recomputed from its parametrization"
            )
        if module is not None and id(module) in paths:
            subject = f"{subject}.{local}".lstrip(".")
        made = f"{self.operation(event)} made a temporary"
        return LostWrite(self.write(storage, index), "temporary", subject, made)

    def _replaced(
        self,
        storage: Storage,
        index: int,
        tensors: Mapping[str, torch.Tensor],
        paths: Mapping[int, str],
        tied: set[str],
    ) -> LostWrite | None:
        """The parameter was written, then its place was given to another that keeps its default values."""
        owner, local = storage.slots[-1]
        path = _path(owner, paths)
        name = f"{path}.{local}".lstrip(".")
        now = tensors.get(name)
        if now is None or name in tied:
            return None
        current = self.recorder.storage(now)
        if current is None or any(not e.default and name_of(e) not in _EMPTY for e in current):
            return None
        write = self.write(storage, index)
        if (
            current
            and current[0].lines
            and self.positions.site(current[0].lines[0]).package != write.site.package
        ):
            return None
        return LostWrite(write, "replaced", name, "another tensor took its place and was not initialised")

    def _parameter_behind(self, storage: Storage) -> Storage | None:
        """The parameter that a temporary was computed from."""
        seen: set[int] = set()
        queue = [storage]
        while queue:
            current = queue.pop()
            if id(current) in seen or not current:
                continue
            seen.add(id(current))
            for source, _ in current[0].inputs:
                if source.slots:
                    return source
                queue.append(source)
        return None


def _path(record: Module, paths: Mapping[int, str]) -> str:
    """Where a module is in the model, or was: the place it was last registered at."""
    steps: list[str] = []
    seen: set[int] = set()
    while True:
        module = record.reference()
        if module is not None and id(module) in paths:
            return ".".join([p for p in (paths[id(module)],) if p] + steps[::-1])
        if not record.parents or id(record) in seen:
            return ".".join(steps[::-1])
        seen.add(id(record))
        record, name = record.parents[-1]
        steps.append(name)


def _file(event: Event) -> str:
    return event.inner[0].co_filename + (event.called.co_filename if event.called is not None else "")


def _spelled(name: str, filename: str, qualified: str) -> str | None:
    path = filename.replace("\\", "/")
    if name in _INITIALISERS and path.endswith(("nn/init.py", "weight_init.py", "initialization.py")):
        return f"nn.init.{name}"
    if path.endswith("torch/nn/init.py"):
        return f"nn.init.{name}"
    if path.endswith("weight_init.py"):
        return f"timm.layers.{name}"
    if name == "load_state_dict" or name == "_load_from_state_dict":
        return "load_state_dict"
    if name in ("deepcopy", "__deepcopy__", "_reconstruct"):
        return "copy.deepcopy"
    if path.endswith("/copy.py"):
        return f"copy.{name}"
    if path.endswith("nn/modules/module.py"):
        return f"Module.{name}"
    if "/torch/nn/modules/" in path or "/torch/nn/" in path:
        return qualified.replace(".<locals>", "")
    return None


def _is_setitem(line: Instruction) -> bool:
    code, offset = line
    return 0 <= offset < len(code.co_code) and dis.opname[code.co_code[offset]] == "STORE_SUBSCR"


def _call_text(line: Instruction) -> str:
    """What was called at an instruction, as far as its source tells: "torch.from_numpy"."""
    first, last, start, end = position(line)
    text = linecache.getline(line[0].co_filename, first) if first == last else ""
    text = text.encode()[start:end].decode(errors="replace") if start >= 0 else ""
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return "torch.tensor"
    if isinstance(call, ast.Call) and isinstance(call.func, (ast.Attribute, ast.Name)):
        return ast.unparse(call.func)
    return "torch.tensor"


def _in_place(name: str) -> bool:
    return name.endswith("_")


def _updates(event: Event) -> bool:
    """The event's result depends on what the storage held before."""
    name = name_of(event)
    what = effect(event.operation)[0]
    if what in ("new", "compute"):
        return False
    if name in ("copy_", "zero_") or name in _EMPTY:
        return False
    if name == "fill_" or torch.Tag.nondeterministic_seeded in event.operation.tags:
        return False
    return "out" not in event.operation._schema.overload_name


def _copies(event: Event) -> bool:
    """The whole of a tensor that was a parameter, or is being deep-copied, was copied to a whole tensor."""
    if event.part is not None or not event.inputs or name_of(event) not in ("clone", "copy_", "_to_copy"):
        return False
    source, version = event.inputs[-1]
    whole = version > 0 and source.numel == event.numel
    return whole and bool(source.slots or event.inner[0].co_name == "__deepcopy__")


def _moves(event: Event) -> bool:
    """The event only moved values to another device or dtype, as Module.to does."""
    return name_of(event) == "_to_copy" and event.called is not None and event.called.co_filename == _MODULE


def _same_call(first: Event, event: Event) -> bool:
    """Both events ran inside one call of a torch.nn.init function."""
    return (
        first.called is not None
        and first.called is event.called
        and first.arguments is not None
        and first.lines == event.lines
        and first.inner != event.inner
    )


def _arguments(event: Event) -> dict[str, float | int | str | bool]:
    """Scalar arguments of an operator, by the names of its schema."""
    names = [a.name for a in event.operation._schema.arguments if "Tensor" not in str(a.type)]
    if event.called is not None:  # spelled as torch.nn.init does
        names = ["a" if n == "from" else "b" if n == "to" else "val" if n == "value" else n for n in names]
    return {
        name: value
        for name, value in zip(names, event.scalars, strict=False)
        if isinstance(value, (bool, int, float, str))
    }


def _extent(offset: int, size: Iterable[int], stride: Iterable[int]) -> tuple[int, int]:
    return offset, offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) + 1


def _overlaps(event: Event, extent: tuple[int, int]) -> bool:
    if event.part is None:
        return True
    low, high = _extent(*event.part)
    return low < extent[1] and extent[0] < high


def poison(tensor: torch.Tensor) -> int:
    """Elements that hold what torch fills uninitialised memory with: NaN, or the largest integer."""
    with torch.no_grad():
        values = tensor.detach()
        try:
            if values.is_quantized or values.layout != torch.strided:
                return 0
            if values.is_floating_point() or values.is_complex():
                if values.dtype.itemsize == 1:
                    values = values.to(torch.float32)
                return int(torch.isnan(values).sum())
            if values.dtype == torch.bool:
                return int(values.sum())
            return int((values == torch.iinfo(values.dtype).max).sum())
        except (NotImplementedError, RuntimeError, TypeError):
            return 0
