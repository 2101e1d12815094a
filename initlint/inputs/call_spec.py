"""What an argument of forward may be: a description that can be changed, and made into a value.

Descriptions are frozen, so that a search may hold many of them. Sizes that nothing has fixed yet are
numbers of their own kind (a batch, a length, a width), so that an operator that objects to a size tells
which dimension it objects to.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal

import torch

BATCH = 2
LENGTH = 16
WIDTH = 24  # of features as long as nothing says how many
FRAMES = 4
NODES = 12
EDGES = 30

Fill = Literal["random", "unit", "ones", "zeros", "full", "causal", "boxes", "adjacency"]
Path = tuple[str, ...]  # of a tensor: argument, then keys, indices or attributes


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor. Whole numbers lie below `high`; `settled` dimensions were asked for by an operator."""

    shape: tuple[int, ...]
    kind: Literal["float", "int", "bool"] = "float"
    fill: Fill = "random"
    high: int = 2
    settled: frozenset[int] = frozenset()

    def with_size(self, dimension: int, size: int) -> TensorSpec:
        """With another size of one dimension, which counts as settled."""
        dimension %= len(self.shape)
        shape = (*self.shape[:dimension], max(1, size), *self.shape[dimension + 1 :])
        return replace(self, shape=shape, settled=self.settled | {dimension})


@dataclass(frozen=True, slots=True)
class Constant:
    """A plain value."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Group:
    """A container: keys are indices of a list, keys of a dict, or names of attributes."""

    kind: Literal["list", "tuple", "dict", "object"]
    items: tuple[tuple[str, Spec], ...] = ()

    def with_item(self, key: str, spec: Spec) -> Group:
        """With one more item."""
        return replace(self, items=(*self.items, (key, spec)))


Spec = TensorSpec | Constant | Group


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments of one call, by parameter name in the order of the signature."""

    arguments: tuple[tuple[str, Spec], ...]

    def parts(self) -> Iterator[tuple[Path, Spec]]:
        """All descriptions with the way to them, a container before what it holds."""
        for name, spec in self.arguments:
            yield from _parts((name,), spec)

    def leaves(self) -> Iterator[tuple[Path, TensorSpec]]:
        """All tensors, with the way to them."""
        return ((path, spec) for path, spec in self.parts() if isinstance(spec, TensorSpec))

    def text(self) -> str:
        """The tensors by name: "x float[2, 24], t int[2]"."""
        return ", ".join(f"{'.'.join(path)} {spec.kind}{list(spec.shape)}" for path, spec in self.leaves())

    def spec(self, path: Path) -> Spec:
        """The description at a path."""
        spec = dict(self.arguments)[path[0]]
        for key in path[1:]:
            assert isinstance(spec, Group)
            spec = dict(spec.items)[key]
        return spec

    def with_spec(self, path: Path, spec: Spec) -> Call:
        """With another description at a path."""
        return Call(
            tuple((n, _with_spec(old, path[1:], spec) if n == path[0] else old) for n, old in self.arguments)
        )


def _parts(path: Path, spec: Spec) -> Iterator[tuple[Path, Spec]]:
    yield path, spec
    for key, item in spec.items if isinstance(spec, Group) else ():
        yield from _parts((*path, key), item)


def _with_spec(old: Spec, path: Path, spec: Spec) -> Spec:
    if not path:
        return spec
    assert isinstance(old, Group)
    return replace(
        old, items=tuple((k, _with_spec(v, path[1:], spec) if k == path[0] else v) for k, v in old.items)
    )


# ---------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class Maker:
    """Where and how values are made."""

    dtype: torch.dtype
    device: torch.device
    seed: int

    def arguments(
        self, call: Call, parameters: Mapping[str, inspect.Parameter]
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[Path, torch.Tensor]]:
        """Positional and keyword arguments, and the tensors in them by path."""
        tensors: dict[Path, torch.Tensor] = {}
        generator = torch.Generator().manual_seed(self.seed)
        values = {name: self._value((name,), spec, tensors, generator) for name, spec in call.arguments}
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        gap = False
        for name, parameter in parameters.items():
            if name not in values:
                gap = True
            elif parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(values[name])
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs.update(values[name])
            elif parameter.kind is parameter.KEYWORD_ONLY or gap or parameter.default is not parameter.empty:
                kwargs[name] = values[name]
                gap = True
            else:
                args.append(values[name])
        return tuple(args), kwargs, tensors

    def _value(
        self, path: Path, spec: Spec, tensors: dict[Path, torch.Tensor], generator: torch.Generator
    ) -> Any:
        if isinstance(spec, Constant):
            return spec.value
        if isinstance(spec, TensorSpec):
            tensors[path] = self._tensor(spec, generator)
            return tensors[path]
        items = {key: self._value((*path, key), item, tensors, generator) for key, item in spec.items}
        match spec.kind:
            case "list":
                return list(items.values())
            case "tuple":
                return tuple(items.values())
            case "dict":
                return items
        return SimpleNamespace(**items)

    def _tensor(self, spec: TensorSpec, generator: torch.Generator) -> torch.Tensor:
        shape, device = spec.shape, self.device
        dtype = {"float": self.dtype, "int": torch.int64, "bool": torch.bool}[spec.kind]
        match spec.fill:
            case "ones":
                return torch.ones(shape, dtype=dtype, device=device)
            case "zeros":
                return torch.zeros(shape, dtype=dtype, device=device)
            case "full":
                return torch.full(shape, spec.high, dtype=dtype, device=device)
            case "causal":
                return torch.ones(shape, dtype=torch.bool, device=device).triu(1)
            case "boxes":
                corner = torch.rand((*shape[:-1], 2), generator=generator, device="cpu") * 16
                size = torch.rand((*shape[:-1], 2), generator=generator, device="cpu") * 16 + 8
                return torch.cat([corner, corner + size], dim=-1).to(device, dtype)
            case "adjacency":
                links = torch.rand(shape, generator=generator, device="cpu") < 0.3
                links = links | links.transpose(-1, -2) | torch.eye(shape[-1], dtype=torch.bool, device="cpu")
                return (links / links.sum(-1, keepdim=True)).to(device, dtype)
            case "unit":
                return torch.rand(shape, generator=generator, device="cpu").to(device, dtype)
        if spec.kind == "float":
            real = torch.complex64 if dtype.is_complex else torch.float32
            return torch.randn(shape, generator=generator, dtype=real, device="cpu").to(device, dtype)
        return torch.randint(0, max(1, spec.high), shape, generator=generator, device="cpu").to(device, dtype)
