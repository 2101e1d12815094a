"""What ATen's operators do to memory: read from their schemas, once each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

Effect = Literal["view", "fill", "new", "write", "compute", "read", "set"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READING = _names("_local_scalar_dense equal is_nonzero")
_EMPTY = _names(
    "empty empty_like new_empty empty_strided new_empty_strided empty_permuted resize_ "
    "_empty_affine_quantized"
)
_CONSTANT = _names(
    "zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full scalar_tensor "
    "zero_ fill_ masked_fill_ index_fill_ _efficientzerotensor"
)
_PASSING = _names(
    "copy_ clone _to_copy index_put_ _index_put_impl_ masked_scatter_ scatter_ index_copy_ "
    "stack cat repeat index index_select expand_copy view_copy"
)
_POINTWISE = _names(
    "add sub rsub mul div neg exp log sqrt rsqrt pow reciprocal abs clone _to_copy copy_ repeat"
)


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    `effect`: a "view" makes no values; "fill" writes its only tensor, "new" makes one from no tensor, "write"
    and "compute" do so from others; "read" gives values to Python; "set" exchanges memory.
    """

    overload: Any  # torch._ops.OpOverload
    name: str  # without namespace and overload: "normal_"
    effect: Effect
    written: tuple[int | str, ...]  # arguments that it writes: position, or name if keyword-only
    arguments: tuple[str, ...]  # names of the arguments that are no tensors
    random: bool
    empty: bool  # leaves memory as it was found
    constant: bool  # writes one constant
    passing: bool  # passes values on without computing
    pointwise: bool  # makes a constant of constants
    replaces: bool  # what it writes keeps nothing of what was there


def learn(overload: Any) -> Operator:
    """Read an operator's schema."""
    schema = overload._schema
    name = schema.name.partition("::")[2]
    effect, written = _effect(schema, name)
    random = torch.Tag.nondeterministic_seeded in overload.tags
    return Operator(
        overload=overload,
        name=name,
        effect=effect,
        written=written,
        arguments=tuple(a.name for a in schema.arguments if "Tensor" not in str(a.type)),
        random=random,
        empty=name in _EMPTY,
        constant=name in _CONSTANT,
        passing=name in _PASSING,
        pointwise=name in _POINTWISE,
        replaces=effect in ("new", "compute")
        or random
        or name in ("copy_", "zero_", "fill_")
        or "out" in schema.overload_name,
    )


def _effect(schema: Any, name: str) -> tuple[Effect, tuple[int | str, ...]]:
    written = tuple(
        argument.name if argument.kwarg_only else position
        for position, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    tensors = sum("Tensor" in str(argument.type) for argument in schema.arguments)
    single = len(schema.returns) == 1 and str(schema.returns[0].type) == "Tensor"
    if name == "set_":
        return "set", written
    if name in _READING:
        return "read", written
    if written:
        return "fill" if written == (0,) and tensors == 1 and name != "resize_" else "write", written
    if name == "lift_fresh" or (tensors == 0 and single):
        return "new", written
    if schema.returns and all(result.alias_info is not None for result in schema.returns):
        return "view", written
    return "compute", written
