"""From a call that failed to calls that may not: the arguments changed so that a requirement is met."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import log, prod
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from initlint.inputs.attempt import Failure, origins
from initlint.inputs.call_spec import (
    BATCH,
    FRAMES,
    LENGTH,
    NODES,
    Call,
    Constant,
    Group,
    Path,
    Spec,
    TensorSpec,
)
from initlint.inputs.first_guess import IMAGE_SIZES, detection_target, guess, image_size, is_of_graph
from initlint.inputs.messages import FLAG, NONE, NUMBER, RANK
from initlint.inputs.requirements import Requirement, requirements
from initlint.inputs.source_clues import comparisons, in_torch, ranks, required_keys, value_of
from initlint.source import statements_at

NEAR = 0.5  # logarithm of a ratio of sizes: borders lose a part of small images

#: Sides of square images, of one argument and up to one failing operator that wanted so many elements, and
#: the elements that they gave it.
Sides = dict[tuple[Path, int, int], dict[int, int]]


@dataclass(frozen=True, slots=True)
class Repair:
    """A failed call and its failure."""

    model: nn.Module
    parameters: Mapping[str, inspect.Parameter]
    call: Call
    failure: Failure
    sides: Sides

    def proposals(self) -> Iterator[Call]:
        """Changed calls, likeliest first."""
        yield from self._containers()
        yield from self._further_positionals()
        yield from self._optional_arguments()
        for need in requirements(self.failure):
            yield from self._fulfilments(need)
        yield from self._required_keys()
        yield from self._unpacked_ranks()
        yield from self._compared_sizes()
        yield from self._plain_values()
        yield from self._mentioned_sizes()
        yield from self._usual_sizes()

    # ------------------------------------------------------------ requirements of operators

    def _fulfilments(self, need: Requirement) -> Iterator[Call]:
        for path, identical in self._sources(need.tensor):
            spec = self.call.spec(path)
            if isinstance(spec, TensorSpec):
                for changed in (
                    *self._image_between(path, spec, need, identical),
                    *self._changes(spec, need, identical),
                ):
                    yield from self._equal_images(spec, changed)
                    yield self.call.with_spec(path, changed)

    def _equal_images(self, spec: TensorSpec, changed: TensorSpec) -> Iterator[Call]:
        """Images of one size that change together: of a siamese network, before and after."""
        paths = [path for path, other in self.call.leaves() if other == spec]
        if len(paths) > 1 and len(spec.shape) > 3:
            call = self.call
            for path in paths:
                call = call.with_spec(path, changed)
            yield call

    def _sources(self, tensor: torch.Tensor) -> list[tuple[Path, bool]]:
        """Arguments that a tensor was made from, and whether it has the argument's very shape."""
        found = origins(tensor)
        leaves = self.failure.tensors
        same = [path for path in leaves if path in found and leaves[path].shape == tensor.shape]
        return [(path, True) for path in same] + [(p, False) for p in leaves if p in found and p not in same]

    def _image_between(
        self, path: Path, spec: TensorSpec, need: Requirement, identical: bool
    ) -> Iterator[TensorSpec]:
        """An image larger than one that gave too few elements, and smaller than one that gave too many."""
        if need.size is not None and -need.tensor.dim() <= need.size[0] < need.tensor.dim():
            found, wanted = need.tensor.shape[need.size[0]], need.size[1]
        elif need.flat is not None:
            found, wanted = need.flat
        else:
            return
        if identical or len(spec.shape) < 4 or spec.shape[-1] != spec.shape[-2]:
            return
        known = self.sides.setdefault((path, self.failure.calls, wanted), {})
        known[spec.shape[-1]] = found
        low = max((side for side, elements in known.items() if elements < wanted), default=None)
        high = min((side for side, elements in known.items() if elements > wanted), default=None)
        if low is not None and high is not None and low + 1 < high:
            part = (wanted**0.5 - known[low] ** 0.5) / (known[high] ** 0.5 - known[low] ** 0.5)
            side = min(high - 1, max(low + 1, round(low + part * (high - low))))
            yield replace(spec, shape=(*spec.shape[:-2], side, side))

    def _changes(self, spec: TensorSpec, need: Requirement, identical: bool) -> Iterator[TensorSpec]:
        if need.kind is not None and need.kind != spec.kind:
            yield self._other_kind(spec, need)
        if need.below is not None:
            if spec.kind == "int" and (spec.high > need.below or spec.fill != "random"):
                yield replace(spec, high=min(spec.high, need.below), fill="random")
            for place, size in enumerate(spec.shape[1:], 1):
                if size > need.below:
                    yield spec.with_size(place, need.below)
        if need.shape is not None:
            yield self._other_shape(spec, need.shape, len(spec.shape) - need.tensor.dim())
        if need.rank is not None:
            yield from self._other_ranks(spec, need.rank + len(spec.shape) - need.tensor.dim())
        if need.size is not None and need.tensor.dim():
            place, size = need.size
            place %= need.tensor.dim()
            if identical:
                if need.tensor.shape[place] != size:
                    yield spec.with_size(place, size)
            else:
                actual = need.tensor.shape[place]
                yield from _sizes_for(spec, place - need.tensor.dim(), actual, size)
        if need.flat is not None:
            yield from _sizes_for(spec, -1, *need.flat)

    def _other_kind(self, spec: TensorSpec, need: Requirement) -> TensorSpec:
        if need.kind != "int":
            return replace(
                spec,
                kind=need.kind or spec.kind,
                fill="unit" if need.kind == "float" else "ones",
            )
        shape = spec.shape
        if need.below is not None and len(shape) > 1:  # ids of embeddings: without the features, or a few
            shape = shape[:-1] if len(shape) == 3 else shape if spec.settled else (shape[0], LENGTH)
        return TensorSpec(shape, "int", high=need.below or 2)

    def _other_ranks(self, spec: TensorSpec, rank: int) -> Iterator[TensorSpec]:
        """More or fewer dimensions, the last kept: (batch, width), (batch, length, width), images, videos."""
        batch, width = (spec.shape[0], spec.shape[-1]) if spec.shape else (BATCH, 1)
        if rank == len(spec.shape) or not 0 <= rank <= 6:
            return
        if rank > 3 and len(spec.shape) < 3:
            lead = [BATCH, 3, 16][: rank - 2] if rank > 4 else [BATCH, 3]
            yield TensorSpec((*lead, *image_size(self.model)), spec.kind, high=spec.high)
        if rank == len(spec.shape) + 1 and len(spec.shape) > 3:  # several images
            settled = frozenset(d + (d > 0) for d in spec.settled)
            yield replace(spec, shape=(batch, FRAMES, *spec.shape[1:]), settled=settled)
            return
        shapes: dict[int, tuple[int, ...]] = {
            0: (),
            1: (batch,),
            2: (batch, width),
            3: (BATCH, NODES, width) if batch == NODES else (batch, LENGTH, width),
            4: (batch, 4, LENGTH, width),
            5: (batch, 4, 4, LENGTH, width),
            6: (batch, 2, 4, 4, LENGTH, width),
        }
        settled = frozenset({rank - 1}) if len(spec.shape) - 1 in spec.settled and rank else frozenset[int]()
        yield replace(spec, shape=shapes[rank], settled=settled)

    def _other_shape(self, spec: TensorSpec, wanted: tuple[int | None, ...], extra: int) -> TensorSpec:
        sizes: dict[int, tuple[int, ...]] = {1: (128,), 2: image_size(self.model), 3: (16, 64, 64)}
        usual = (BATCH, wanted[1] or 3, *sizes.get(len(wanted) - 2, ()))[max(0, -extra) :]
        settled = frozenset({len(usual) - len(wanted) + 1}) if len(usual) > 1 else frozenset[int]()
        return TensorSpec((*[1] * max(0, extra), *usual), spec.kind, spec.fill, settled=settled)

    # ------------------------------------------------------------ containers and missing arguments

    def _containers(self) -> Iterator[Call]:
        error = self.failure.error
        name = getattr(self.failure.function, "__name__", "")
        if name == "__getitem__" and isinstance(self.failure.args[1], str):
            tensor, key = self.failure.args
            for path, identical in self._sources(tensor):
                if identical:
                    yield self.call.with_spec(path, self._dictionary(path, key))
                elif tuple(tensor.shape) == self.failure.tensors[path].shape[1:]:  # one of several
                    items = [(str(i), self._dictionary(path, key)) for i in range(BATCH)]
                    yield self.call.with_spec(path, Group("list", tuple(items)))
        if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
            yield from self._with_item("dict", error.args[0])
        if isinstance(error, AttributeError) and isinstance(error.name, str):
            if isinstance(error.obj, SimpleNamespace):
                yield from self._with_item("object", error.name)
            if isinstance(error.obj, torch.Tensor):
                for path, identical in self._sources(error.obj):
                    if identical:
                        yield self.call.with_spec(
                            path, Group("object", ((error.name, self._guess(error.name)),))
                        )
            if isinstance(error.obj, dict):
                for path, spec in self._groups("dict"):
                    yield self.call.with_spec(
                        path, Group("object", (*spec.items, (error.name, self._guess(error.name))))
                    )

    def _groups(self, kind: str) -> Iterator[tuple[Path, Group]]:
        for path, spec in self.call.parts():
            if isinstance(spec, Group) and spec.kind == kind:
                yield path, spec

    def _with_item(self, kind: str, key: str) -> Iterator[Call]:
        call = self.call
        for path, spec in self._groups(kind):
            if key not in dict(spec.items):
                call = call.with_spec(path, spec.with_item(key, self._item(path, key)))
        if is_of_graph(key):
            for path, leaf in call.leaves():
                if leaf.kind == "float" and len(leaf.shape) == 2 and leaf.shape[0] == BATCH:
                    call = call.with_spec(path, replace(leaf, shape=(NODES, leaf.shape[1])))
        if call != self.call:
            yield call

    def _required_keys(self) -> Iterator[Call]:
        """All that the forward asks of one of its dictionaries: batch.pop("x"), kw.get("mask"), kw["y"]."""
        keys = required_keys(self.model)
        for name, spec in self.call.arguments:
            group = spec if isinstance(spec, Group) and spec.kind == "dict" else Group("dict")
            known = dict(group.items)
            added = [(key, self._item((name,), key)) for key in keys.get(name, ()) if key not in known]
            tensor = self.failure.tensors.get((name,))
            refused = tensor is not None and getattr(self.failure.error, "obj", None) is tensor
            if added and (refused or spec is group):
                yield self.call.with_spec((name,), replace(group, items=(*group.items, *added)))

    def _dictionary(self, path: Path, key: str) -> Group:
        keys = ("boxes", "labels") if key == "boxes" and "target" in path[0] else (key,)
        return Group("dict", tuple((k, self._item(path, k)) for k in keys))

    def _item(self, path: Path, key: str) -> Spec:
        item = detection_target(key) if "target" in path[0] else None
        return item or self._guess(key)

    def _guess(self, name: str) -> Spec:
        graph = any(is_of_graph(path[-1]) for path, _ in self.call.leaves())
        return guess(name, self.parameters.get(name), None, self.model, graph=graph)

    def _further_positionals(self) -> Iterator[Call]:
        """One more of the positional arguments that a model takes any number of."""
        if self.failure.function is not None or not isinstance(self.failure.error, (IndexError, ValueError)):
            return
        for name, spec in self.call.arguments:
            if self.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL and isinstance(spec, Group):
                yield self.call.with_spec((name,), spec.with_item(str(len(spec.items)), spec.items[0][1]))

    def _optional_arguments(self) -> Iterator[Call]:
        """Optional arguments that the message names, or that are None where something was expected."""
        given = {name for name, _ in self.call.arguments}
        absent = [n for n, p in self.parameters.items() if n not in given and p.kind is not p.VAR_KEYWORD]
        message = str(self.failure.error)
        named = [n for n in absent if re.search(rf"(?<!\w){re.escape(n)}(?!\w)", message)]
        if NONE.match(self.failure.error) or isinstance(self.failure.error, AssertionError):
            for frame, line in reversed(self.failure.frames):
                text = linecache.getline(frame.f_code.co_filename, line)
                named += [
                    n
                    for n in absent
                    if n not in named
                    and frame.f_locals.get(n, 0) is None
                    and re.search(rf"(?<!\w){n}(?!\w)", text)
                ]
        for name in named:
            yield self._with_argument(name)

    def _with_argument(self, name: str) -> Call:
        hint = getattr(self.model.forward, "__annotations__", {}).get(name)
        spec = guess(name, self.parameters[name], hint, self.model)
        known = {**dict(self.call.arguments), name: spec}
        return Call(tuple((n, known[n]) for n in self.parameters if n in known))

    # ------------------------------------------------------------ what the source line says

    def _unpacked_ranks(self) -> Iterator[Call]:
        """b, c, h, w = x.shape, and x.shape[3]: the number of dimensions is in the line."""
        error = self.failure.error
        for frame, line in reversed(self.failure.frames):
            for statement in statements_at(frame.f_code.co_filename, line)[:2]:
                for rank, owner in ranks(statement, error):
                    tensor = value_of(owner, frame)
                    if isinstance(tensor, torch.Tensor) and tensor.dim() != rank:
                        yield from self._fulfilments(Requirement(tensor, rank=rank))
            if not in_torch(frame):
                return

    def _compared_sizes(self) -> Iterator[Call]:
        """Sides of the comparison that an assert or a raise under an if rests on."""
        for frame, line in list(reversed(self.failure.frames))[:3]:
            for statement in statements_at(frame.f_code.co_filename, line)[:2]:
                for left, operator, right in comparisons(statement):
                    if isinstance(left, ast.BinOp) and isinstance(left.op, ast.Mod):
                        value, modulus = value_of(left.left, frame), value_of(left.right, frame)
                        if isinstance(value, int) and isinstance(modulus, int) and modulus > 0:
                            yield from self._replacements(value, -(-value // modulus) * modulus)
                        continue
                    a, b = value_of(left, frame), value_of(right, frame)
                    if isinstance(operator, (ast.In, ast.NotIn)) and isinstance(b, (list, tuple, set)):
                        for choice in b:
                            yield from self._replacements(a, choice)
                        continue
                    yield from self._replacements(a, b)
                    yield from self._replacements(b, a)

    def _replacements(self, found: Any, wanted: Any) -> Iterator[Call]:
        """Every dimension of one size with another size; both may be shapes."""
        if isinstance(found, (tuple, list)) and isinstance(wanted, (tuple, list)):
            if len(found) == len(wanted):
                for a, b in zip(found, wanted, strict=True):
                    yield from self._replacements(a, b)
            return
        if type(found) is not int or type(wanted) is not int or found == wanted or not 0 < wanted < 1 << 16:
            return
        call = self.call
        for path, spec in self.call.leaves():
            changed = spec
            for place, size in enumerate(spec.shape):
                if size == found and (place or len(spec.shape) == 1):
                    changed = changed.with_size(place, wanted)
            if changed != spec:
                yield self.call.with_spec(path, changed)
                call = call.with_spec(path, changed)
        if call != self.call:
            yield call

    def _plain_values(self) -> Iterator[Call]:
        """A plain number or flag where a tensor cannot be used as one."""
        flag = FLAG.match(self.failure.error) is not None
        if not flag and not NUMBER.match(self.failure.error):
            return
        for frame, line in reversed(self.failure.frames):
            text = linecache.getline(frame.f_code.co_filename, line)
            for name, value in list(frame.f_locals.items()):
                if not isinstance(value, torch.Tensor) or not re.search(
                    rf"(?<!\w){re.escape(name)}(?!\w)", text
                ):
                    continue
                for path, identical in self._sources(value):
                    if identical:
                        for plain in (False, True) if flag else (4, 0):
                            yield self.call.with_spec(path, Constant(plain))

    def _mentioned_sizes(self) -> Iterator[Call]:
        """Sizes in the message, one put in place of another."""
        message = str(self.failure.error)
        if rank := RANK.match(self.failure.error):
            for tensor in self.failure.tensors.values():
                yield from self._fulfilments(Requirement(tensor, rank=int(rank[1])))
        numbers = list(dict.fromkeys(int(n) for n in re.findall(r"(?<![\w.])\d{1,6}(?![\w.]*\w)", message)))[
            :8
        ]
        for found in numbers:
            for wanted in numbers:
                yield from self._replacements(found, wanted)

    def _usual_sizes(self) -> Iterator[Call]:
        """Images of other sizes, sequences of other lengths."""
        for path, spec in self.call.leaves():
            if spec.kind == "float" and len(spec.shape) >= 3 and spec.shape[-1] == spec.shape[-2]:
                for size in IMAGE_SIZES:
                    if size != spec.shape[-1]:
                        yield self.call.with_spec(path, replace(spec, shape=(*spec.shape[:-2], size, size)))


# ---------------------------------------------------------------- sizes
def _sizes_for(spec: TensorSpec, place: int, actual: int, wanted: int) -> Iterator[TensorSpec]:
    """Sizes of an argument that give `wanted` where `actual` was found, at `place` from the end."""
    if actual == wanted:
        return
    if spec.kind == "int" and actual == wanted * prod(spec.shape):  # one token at a time
        yield replace(spec, shape=(1,) * len(spec.shape))
    rank = len(spec.shape)
    free = [d for d in range(1, rank) if d not in spec.settled] or list(range(1, rank)) or list(range(rank))
    equal = sorted((d for d in free if spec.shape[d] == actual), key=lambda d: abs(d - rank - place))
    for dimension in equal:
        yield spec.with_size(dimension, wanted)
    if rank >= 3 and spec.kind == "float":
        yield from _image_sizes(spec, wanted / max(1, actual))
    for dimension in reversed(free):
        size = spec.shape[dimension]
        if dimension in equal:
            continue
        if actual % size == 0 and wanted % (actual // size or 1) == 0:
            yield spec.with_size(dimension, wanted // (actual // size or 1))
        elif actual and wanted * size % actual == 0:
            yield spec.with_size(dimension, wanted * size // actual)
    for dimension in reversed(free):
        if 0 < spec.shape[dimension] + wanted - actual < 1 << 16 and dimension not in equal:
            yield spec.with_size(dimension, spec.shape[dimension] + wanted - actual)


def _image_sizes(spec: TensorSpec, ratio: float) -> Iterator[TensorSpec]:
    """Images (and sounds) of other sizes: usual ones near the one scaled by `ratio`, that one, others."""
    square = len(spec.shape) > 3 or spec.shape[-1] == spec.shape[-2]
    side = spec.shape[-1]
    target = side * ratio ** (0.5 if square else 1.0)
    usual = sorted(IMAGE_SIZES, key=lambda s: abs(log(s / target))) if square else []
    near = [size for size in usual[:3] if abs(log(size / target)) < NEAR]
    for size in dict.fromkeys([*near, round(target), *usual[:7]]):
        if size != side and size > 0:
            shape = (*spec.shape[:-2], size, size) if square else (*spec.shape[:-1], size)
            yield replace(spec, shape=shape)
