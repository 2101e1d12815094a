"""What an operator that raised required of its operands: a size, a rank, a kind, a range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any, Literal

import torch
from torch import nn

from initlint.inputs.attempt import Failure, UnbatchedError
from initlint.inputs.messages import DIMENSION, KIND, SIZE
from initlint.runtime import layer, operands

INDEX_ARGUMENTS = {
    "gather": 2,
    "scatter": 2,
    "scatter_add": 2,
    "index_select": 2,
    "index_add": 2,
    "one_hot": 0,
}
PRODUCTS = frozenset({"matmul", "__matmul__", "mm", "bmm", "mv", "dot", "inner"})
LOGICAL = frozenset(
    {"__invert__", "__and__", "__or__", "logical_not", "bitwise_not", "masked_fill", "masked_fill_"}
)
JOINS = frozenset({"cat", "concat", "concatenate", "stack", "hstack", "vstack"})


@dataclass(frozen=True, slots=True, eq=False)
class Requirement:
    """What one tensor had to be; what is None does not matter. `size` is (dimension, size)."""

    tensor: torch.Tensor
    size: tuple[int, int] | None = None
    rank: int | None = None
    shape: tuple[int | None, ...] | None = None  # of another rank, None where any size will do
    flat: tuple[int, int] | None = None  # elements behind the leading dimensions: found, wanted
    kind: Literal["float", "int", "bool"] | None = None
    below: int | None = None


def requirements(failure: Failure) -> Iterator[Requirement]:
    """Requirements that, met, might have kept the failing function from raising, likeliest first."""
    if isinstance(failure.error, UnbatchedError):
        yield Requirement(failure.error.tensor, rank=failure.error.rank)
        return
    yield from _recurrent_layer(failure)
    if failure.function is None:
        return
    name = getattr(failure.function, "__name__", "")
    arguments = [*failure.args, *failure.kwargs.values()]
    tensors = list(operands(arguments, torch.Tensor))
    yield from _kinds(name, failure, tensors)
    if name in _BY_NAME and arguments and (name == "einsum" or isinstance(arguments[0], torch.Tensor)):
        yield from _BY_NAME[name](failure, arguments)
    elif name in PRODUCTS:
        yield from _product(*tensors[:2]) if len(tensors) > 1 else ()
    elif name in JOINS:
        yield from _concatenation(failure, tensors)
    elif SIZE.match(failure.error):
        for a, b in combinations(tensors, 2):
            yield from _broadcast(a, b)
    yield from _missing_dimension(failure, tensors)


# ---------------------------------------------------------------- kinds


def _kinds(name: str, failure: Failure, tensors: list[torch.Tensor]) -> Iterator[Requirement]:
    if name in INDEX_ARGUMENTS and len(failure.args) > INDEX_ARGUMENTS[name]:
        index = failure.args[INDEX_ARGUMENTS[name]]
        if isinstance(index, torch.Tensor) and index.is_floating_point():
            yield Requirement(index, kind="int")
    if not KIND.match(failure.error):
        return
    if name in LOGICAL:
        for tensor in tensors:
            if tensor.dtype != torch.bool:
                yield Requirement(tensor, kind="bool")
    if name == "__getitem__" and len(tensors) > 1:
        for tensor in tensors[1:]:
            yield Requirement(tensor, kind="int")
        return
    for tensor in tensors:
        if not (tensor.is_floating_point() or tensor.is_complex()):
            yield Requirement(tensor, kind="float")
    for tensor in tensors:
        if tensor.is_floating_point():
            yield Requirement(tensor, kind="int")


# ---------------------------------------------------------------- functions


def _linear(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    yield Requirement(arguments[0], size=(-1, arguments[1].shape[1]))


def _embedding(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    ids, table = arguments[0], arguments[1]
    if ids.is_floating_point():
        yield Requirement(ids, kind="int", below=table.shape[0])
    else:
        yield Requirement(ids, below=table.shape[0])


def _convolution(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    image, kernel = arguments[0], arguments[1]
    if not isinstance(kernel, torch.Tensor):  # a quantised one is packed
        return
    transposed = "transpose" in failure.function.__name__
    groups = failure.kwargs.get("groups", failure.args[6] if len(failure.args) > 6 else 1)
    if transposed:
        groups = 1
    count = kernel.shape[0] if transposed else kernel.shape[1] * (groups if isinstance(groups, int) else 1)
    if image.dim() != kernel.dim():
        yield Requirement(image, shape=(None, count, *[None] * (kernel.dim() - 2)))
    else:
        yield Requirement(image, size=(1, count))


def _layer_norm(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    shape = tuple(arguments[1])
    for place in range(1, len(shape) + 1):
        if arguments[0].dim() >= place:
            yield Requirement(arguments[0], size=(-place, shape[-place]))


def _batch_norm(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    scale = next((a for a in arguments[1:] if isinstance(a, torch.Tensor)), None)
    if scale is not None and arguments[0].dim() > 1:
        yield Requirement(arguments[0], size=(1, len(scale)))


def _attention(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    query, key, value, width = arguments[:4]
    for tensor in (query, key, value):
        if tensor.dim() == 2:
            yield Requirement(tensor, rank=3)
        if tensor.shape[-1] != width:
            yield Requirement(tensor, size=(-1, width))
    for tensor in (key, value):
        for dimension in range(min(2, tensor.dim())):
            yield Requirement(tensor, size=(dimension, query.shape[dimension]))


def _einsum(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    equation, tensors = arguments[0], list(operands(arguments[1:], torch.Tensor))
    if not isinstance(equation, str):
        return
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if "..." not in equation:
        for term, tensor in zip(terms, tensors, strict=False):
            if tensor.dim() != len(term):
                yield Requirement(tensor, rank=len(term))
                return
    sizes: dict[str, tuple[int, int]] = {}
    for number, (term, tensor) in enumerate(zip(terms, tensors, strict=False)):
        for place, letter in enumerate(term.partition("...")[0]):
            if letter in sizes and sizes[letter][0] != tensor.shape[place]:
                size, other = sizes[letter]
                yield Requirement(tensor, size=(place, size))
                yield Requirement(tensors[other], size=(terms[other].index(letter), tensor.shape[place]))
            sizes.setdefault(letter, (tensor.shape[place], number))


def _product(a: torch.Tensor, b: torch.Tensor) -> Iterator[Requirement]:
    if a.dim() == 0 or b.dim() == 0:
        return
    contracted = b.shape[-2] if b.dim() > 1 else b.shape[0]
    if a.shape[-1] != contracted:
        yield Requirement(a, size=(-1, contracted))
        yield Requirement(b, size=(-2 if b.dim() > 1 else 0, a.shape[-1]))
    if a.dim() > 2 and b.dim() > 2:
        yield from _broadcast(a, b, first=3)
    if a.dim() == 2 and b.dim() == 3:
        yield Requirement(a, rank=3)


def _broadcast(a: torch.Tensor, b: torch.Tensor, first: int = 1) -> Iterator[Requirement]:
    for place in range(first, min(a.dim(), b.dim()) + 1):
        m, n = a.shape[-place], b.shape[-place]
        if m != n and 1 not in (m, n):
            if place > 1 and place == min(a.dim(), b.dim()) < max(a.dim(), b.dim()):
                yield from _rank_differences(a, b)  # the samples of one against the positions of the other
            yield Requirement(a, size=(-place, n))
            yield Requirement(b, size=(-place, m))


def _rank_differences(a: torch.Tensor, b: torch.Tensor) -> Iterator[Requirement]:
    """The one of more dimensions with fewer, the other with more."""
    low, high = sorted((a, b), key=torch.Tensor.dim)
    yield Requirement(high, rank=low.dim())
    yield Requirement(low, rank=high.dim())


def _concatenation(failure: Failure, tensors: list[torch.Tensor]) -> Iterator[Requirement]:
    along = failure.kwargs.get(
        "dim", failure.kwargs.get("axis", failure.args[1] if len(failure.args) > 1 else 0)
    )
    if len({t.dim() for t in tensors}) > 1:
        most, least = (pick(t.dim() for t in tensors) for pick in (max, min))
        yield from (Requirement(t, rank=most) for t in tensors if t.dim() < most)
        yield from (Requirement(t, rank=least) for t in tensors if t.dim() > least)
        return
    for a, b in combinations(tensors, 2):
        for place, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)):
            if m != n and (not isinstance(along, int) or place != along % a.dim()):
                yield Requirement(b, size=(place, m))
                yield Requirement(a, size=(place, n))


def _view(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    tensor, sizes = arguments[0], _listed_sizes(arguments[1:])
    if not tensor.dim() or not all(isinstance(size, int) for size in sizes):
        return
    same = 0
    while same < min(len(sizes), tensor.dim()) - 1 and sizes[same] == tensor.shape[same]:
        same += 1
    same = same or int(sizes[0] == -1 and tensor.dim() > 1)
    expected = prod(size for size in sizes[same:] if size != -1)
    if tensor.dim() - same == 1:
        yield Requirement(tensor, size=(-1, expected))
    else:
        yield Requirement(tensor, flat=(prod(tensor.shape[same:]), expected))


def _listed_sizes(sizes: list[Any]) -> list[Any]:
    """Sizes given one by one or as one list."""
    return list(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (list, tuple)) else sizes


def _split(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    along = failure.kwargs.get("dim", arguments[2] if len(arguments) > 2 else 0)
    if isinstance(arguments[1], (list, tuple)) and isinstance(along, int):
        yield Requirement(arguments[0], size=(along, sum(arguments[1])))


def _unflatten(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    along, sizes = arguments[1], arguments[2]
    if -1 not in sizes:
        yield Requirement(arguments[0], size=(along, prod(sizes)))


def _permute(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    order = _listed_sizes(arguments[1:])
    if arguments[0].dim() != len(order):
        yield Requirement(arguments[0], rank=len(order))


def _getitem(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    tensor, index = arguments[0], arguments[1]
    index = index if isinstance(index, tuple) else (index,)
    places = [i for i in index if i is not None and i is not Ellipsis]
    if len(places) > tensor.dim():
        yield Requirement(tensor, rank=len(places))
        return
    if Ellipsis not in index:
        for place, i in enumerate(places):
            if isinstance(i, int) and not -tensor.shape[place] <= i < tensor.shape[place]:
                yield Requirement(tensor, size=(place, i + 1 if i >= 0 else -i))
            if isinstance(i, torch.Tensor) and not i.is_floating_point():
                yield Requirement(i, below=tensor.shape[place])


def _index_select(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    tensor, along, index = arguments[:3]
    if isinstance(index, torch.Tensor) and isinstance(along, int) and tensor.dim():
        yield Requirement(index, below=tensor.shape[along])


def _expand(failure: Failure, arguments: list[Any]) -> Iterator[Requirement]:
    tensor, sizes = arguments[0], _listed_sizes(arguments[1:])
    for place in range(1, min(tensor.dim(), len(sizes)) + 1):
        size = sizes[-place]
        if isinstance(size, int) and size not in (-1, tensor.shape[-place]):
            yield Requirement(tensor, size=(-place, size))
    if tensor.dim() > len(sizes):
        yield Requirement(tensor, rank=len(sizes))


_BY_NAME = {
    "linear": _linear,
    "embedding": _embedding,
    "embedding_bag": _embedding,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution),
    **dict.fromkeys(("layer_norm", "rms_norm"), _layer_norm),
    **dict.fromkeys(("batch_norm", "instance_norm", "group_norm"), _batch_norm),
    "multi_head_attention_forward": _attention,
    "einsum": _einsum,
    **dict.fromkeys(("view", "reshape"), _view),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    "unflatten": _unflatten,
    "permute": _permute,
    "__getitem__": _getitem,
    **dict.fromkeys(("gather", "index_select", "scatter_add", "index_add"), _index_select),
    **dict.fromkeys(("expand", "expand_as"), _expand),
}


def _missing_dimension(failure: Failure, tensors: list[torch.Tensor]) -> Iterator[Requirement]:
    """A dimension that is not there: transpose(1, 2), size(3), sum(2) of a tensor of too few."""
    found = DIMENSION.match(failure.error)
    if found and tensors:
        place = int(found[1])
        yield Requirement(tensors[0], rank=place + 1 if place >= 0 else -place)


# ---------------------------------------------------------------- modules that check for themselves


def _recurrent_layer(failure: Failure) -> Iterator[Requirement]:
    for frame, _ in reversed(failure.frames):
        module = frame.f_locals.get("self")
        if not isinstance(module, nn.Module):
            continue
        given = next((frame.f_locals[n] for n in ("input", "src", "query", "x") if n in frame.f_locals), None)
        known = layer(module)
        if isinstance(given, torch.Tensor) and known.role == "recurrent":
            if not given.is_floating_point():
                yield Requirement(given, kind="float")
            yield Requirement(given, size=(-1, getattr(module, known.width)))
            state = frame.f_locals.get("hx")
            if isinstance(state, torch.Tensor) and isinstance(module, nn.RNNBase):
                directions = 2 if module.bidirectional else 1
                yield Requirement(state, rank=3)
                yield Requirement(state, size=(-1, module.hidden_size))
                yield Requirement(state, size=(0, module.num_layers * directions))
                if given.dim() == 3 and state.dim() == 3:
                    yield Requirement(state, size=(1, given.shape[0 if module.batch_first else 1]))
        return
