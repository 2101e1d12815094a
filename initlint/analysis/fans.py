"""Which number of connections the scale of a weight was computed from, and whether the weight has it.

`torch.nn.init` reads fans off a shape: dimension 1 times the receptive field is fan_in, dimension 0 times
it fan_out. That is right for (outputs, inputs, …) and wrong for weights stored as (inputs, outputs), for
stacks of matrices, for the outputs of grouped and the inputs of transposed convolutions. Fans written out
by hand go wrong in more ways. What a call asked for is known exactly from its arguments; of other draws
only the statistics are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose, prod, sqrt
from typing import TYPE_CHECKING, Literal

from initlint import theory
from initlint.analysis.symptoms import is_restored

if TYPE_CHECKING:
    from initlint.evidence import Evidence, Use, Weight, Write

EXACT = 1e-5  # relative difference of two figures that come from one formula
NAMES = {"fan_in": "fan-in", "fan_out": "fan-out", "fan_avg": "mean fan"}
FEWEST = 256  # values from which a scheme that was only recognised is believed
#: Gains in use with a fan written out by hand, as a std and as a bound: ReLU, linear, PyTorch's default.
GAINS = {sqrt(2): ("√(2/{})", "√(6/{})"), 1.0: ("1/√{}", "√(3/{})"), sqrt(1 / 3): ("1/√(3·{})", "1/√{}")}
LEAKY = {
    sqrt(2 / (1 + a * a)): (f"√(2/({1 + a * a:.6g}·{{}}))", f"√(6/({1 + a * a:.6g}·{{}}))")
    for a in (0.01, 0.1, 0.2, 0.25)
}
#: Gains that are in use in front of one activation only: nn.init's for tanh, and of leaky ReLU by slope.
SPECIAL = {"tanh": {5 / 3: ("5/(3·√{})", "5/√(3·{})")}, "leaky_relu": LEAKY, "prelu": LEAKY}
#: Gains of prescriptions for the backward pass, for which fan_out is a known choice (He et al. 2015, eq. 14).
BACKWARD = (sqrt(2), 1.0)


@dataclass(frozen=True, slots=True)
class Misreading:
    """A scale computed from `fan`, where the weight's use has `true` (both as `mode`)."""

    text: str  # what takes the wrong fan, from where
    fan: float
    true: float
    mode: str
    gain: float
    by: Literal["call", "formula", "values"]

    @property
    def ratio(self) -> float:
        """Std over the std with the true fan."""
        return sqrt(self.true / self.fan)


def misreading(model: Evidence, weight: Weight) -> Misreading | None:
    """The wrong fan behind a weight's scale; None where it is right, or cannot be told."""
    use, write = weight.use, weight.provenance.last_write
    if not use.fan_in or write is None or write.default:
        return None
    call = write.function
    if call.startswith(("kaiming", "xavier")):
        return _of_call(weight, use, write, call)
    if (std := _asked(weight, write)) is not None:
        plain = _picked(write, std[1]) and not _varies(model, write, std[1])
        return None if plain else _of_formula(weight, use, std[0], std[1])
    return _of_values(weight, use)


def has_plain_scale(weight: Weight) -> bool:
    """Its scale is a plain number that somebody chose, 0.02 say, not computed from a fan."""
    write = weight.provenance.last_write
    asked = _asked(weight, write) if write is not None else None
    return write is not None and asked is not None and _picked(write, asked[1])


# ---------------------------------------------------------------- nn.init's own reading


def _of_call(weight: Weight, use: Use, write: Write, call: str) -> Misreading | None:
    arguments = write.arguments
    whole = write.elements == weight.elements
    stored = theory.fans(weight.shape) if whole else None
    if call.startswith("xavier"):
        fans = arguments.get("fan_in"), arguments.get("fan_out")
        if not all(isinstance(f, int | float) for f in fans) and stored is None:
            return None
        read = sum(fans) / 2 if all(isinstance(f, int | float) for f in fans) else sum(stored or ()) / 2  # type: ignore[arg-type]
        gain, mode = arguments.get("gain", 1.0), "fan_avg"
    else:
        mode = str(arguments.get("mode", "fan_in"))
        fan = arguments.get("fan")
        if isinstance(fan, int | float):
            read = float(fan)
        elif stored is not None:
            read = float(stored[mode == "fan_out"])
        else:
            return None
        gain = arguments.get("gain", 1.0)
    true = _nearest(read, tuple(_right(weight, use, mode, write.elements)))
    if true is None or isclose(read, true, rel_tol=EXACT):
        return None
    shape = f"shape {weight.shape}" if whole else "the shape it is given"
    return Misreading(
        f"{call} reads {NAMES[mode]} {read:.6g} off {shape}", read, true, mode, float(gain), "call"
    )


def _right(weight: Weight, use: Use, mode: str, drawn: int) -> Iterator[float]:
    """The fans with which a call is right; forward and backward preserving are both accepted of fan_out.

    Whoever draws some of the rows by themselves (`drawn` values of all) takes these for the outputs, and
    whoever draws each matrix of a stack takes the sum over the stack for one of outputs, not of inputs.
    """
    inputs, outputs = _inputs(weight, use), _outputs(weight, use)
    if use.fan_out and drawn < weight.elements and not use.stacked:
        outputs = *outputs, use.fan_out * drawn / weight.elements
    if len(weight.shape) > 2 and 0 in use.contracted and drawn * weight.shape[0] == weight.elements:
        inputs = *inputs, inputs[0] / weight.shape[0]
    for n in inputs:
        if mode in ("fan_in", "fan_out"):
            yield n
        for m in outputs:
            if mode == "fan_avg":
                yield (n + m) / 2
    if mode == "fan_out":
        yield from outputs


def _inputs(weight: Weight, use: Use) -> tuple[float, ...]:
    """The true fan_in; of a strided transposed convolution also the one that leaves the stride out."""
    assert use.fan_in
    if not use.transposed:
        return (use.fan_in,)
    return use.fan_in, weight.shape[0] // use.groups * prod(weight.shape[2:])


def _outputs(weight: Weight, use: Use) -> tuple[float, ...]:
    """The true fan_out: of one of the matrices that are fused, and of one of a stack."""
    if not use.fan_out:
        return ()
    outputs = float(use.fan_out) / use.fused
    if use.role == "kernel" and not use.transposed:
        every = weight.shape[0] / use.fused // use.groups * prod(weight.shape[2:])
        return outputs, every  # whatever the stride
    if len(use.outputs) > 1 and not use.stacked:
        return outputs, *(float(weight.shape[axis]) for axis in use.outputs)
    if use.transposed:
        return outputs, weight.shape[1] * prod(weight.shape[2:])
    return (outputs,)


def _nearest(read: float, right: tuple[float, ...]) -> float | None:
    """The right number that is nearest; `read` itself if it lies between two of them."""
    if not right:
        return None
    if min(right) <= read <= max(right):
        return read
    return min(right, key=lambda true: max(true / read, read / true))


# ---------------------------------------------------------------- fans written out by hand


def _asked(weight: Weight, write: Write) -> tuple[float, float] | None:
    """Std, and the number that was written down for it: bound of a uniform, std of a normal draw."""
    arguments, call = write.arguments, write.function
    origins = [origin.function for origin in weight.provenance.origins]
    if call in ("div", "mul") and origins in (["randn"], ["randn_like"]):
        factor = arguments.get("other")
        if not isinstance(factor, int | float) or factor <= 0:
            return None
        return (1 / factor, 1 / factor) if call == "div" else (float(factor), float(factor))
    if call not in ("uniform_", "normal_", "trunc_normal_"):
        return None
    std, low, high = arguments.get("std"), arguments.get("a"), arguments.get("b")
    if call == "uniform_":
        low = arguments.get("a", arguments.get("from", low))
        high = arguments.get("b", arguments.get("to", high))
        if not isinstance(low, int | float) or not isinstance(high, int | float) or high <= 0:
            return None
        return (high / sqrt(3), float(high)) if isclose(low, -high, rel_tol=EXACT) else None
    return (float(std), float(std)) if isinstance(std, int | float) and std > 0 else None


def _plain(value: float) -> bool:
    """A number that somebody chose, not a formula's result: two digits."""
    return isclose(value, float(f"{value:.1e}"), rel_tol=EXACT)


def _picked(write: Write, value: float) -> bool:
    """It is a plain number, or stands as a number in a file that led to the draw."""
    return _plain(value) or value in write.literal


def _varies(model: Evidence, write: Write, value: float) -> bool:
    """The same line drew another weight at another scale: the number is a formula's result all the same."""
    for other in model.weights:
        drawn = other.provenance.last_write
        asked = _asked(other, drawn) if drawn is not None and drawn.site == write.site else None
        if drawn is None or asked is None or isclose(asked[1], value, rel_tol=EXACT):
            continue
        if not _picked(drawn, asked[1]):
            return True
    return False


def _of_formula(weight: Weight, use: Use, std: float, written: float) -> Misreading | None:
    """The fan for which std = gain/√fan holds exactly, if it is no fan of the weight's."""
    if _is_right(weight, use, std):
        return None
    found = [
        (gain, number, meaning, true)
        for number, meaning, true in _mistaken(weight, use)
        for gain in _gains(use)
        if isclose(std * sqrt(number), gain, rel_tol=EXACT)
    ]
    if not found or root_slip(weight) is not None:
        return None
    suited = theory.gain(use.activation) or 1.0
    gain, number, meaning, true = min(found, key=lambda f: (not isclose(f[0], suited), f[0] != 1))
    kind = "std" if written == std else "bound"
    formula = _gains(use)[gain][kind == "bound"].format(f"{number:.6g}")
    text = f"the {kind} {written:.3g} = {formula} is computed from {meaning}"
    return Misreading(text, number, true, "fan_in" if true == use.fan_in else "fan_avg", gain, "formula")


def _is_right(weight: Weight, use: Use, std: float) -> bool:
    """The std is a gain in use over the root of a fan that the weight has."""
    inputs, outputs = _inputs(weight, use), _outputs(weight, use)
    backward = outputs if use.role == "kernel" and not use.transposed else ()
    averages = [(n + m) / 2 for n in inputs for m in outputs]
    doubled = [2 * n for n in inputs]  # 1/√(2·fan_in), as in CLIP, for a block of two residual branches
    hidden = outputs if use.role == "recurrent" else ()  # of torch's own recurrent layers: ±1/√hidden
    return (
        use.ends_residual
        or any(isclose(std * sqrt(3 * n), 1, rel_tol=EXACT) for n in hidden)
        or any(isclose(std * sqrt(n), 1, rel_tol=EXACT) for n in doubled)
        or any(isclose(std * sqrt(n), g, rel_tol=EXACT) for g in _gains(use) for n in (*inputs, *averages))
        or any(isclose(std * sqrt(n), g, rel_tol=EXACT) for g in BACKWARD for n in backward)
    )


def _gains(use: Use) -> dict[float, tuple[str, str]]:
    """Gains that a scale may hold in front of this activation."""
    return {**GAINS, **SPECIAL.get(use.activation or "", {})}


def _mistaken(weight: Weight, use: Use) -> Iterator[tuple[float, str, float]]:
    """Numbers that are taken for a fan, what they are, and the fan that is meant."""
    assert use.fan_in
    if use.fused > 1 and use.fan_out:
        fused = (use.fan_in + use.fan_out) / 2
        yield (
            fused,
            "the mean of its inputs and all fused outputs",
            (use.fan_in + use.fan_out / use.fused) / 2,
        )
    for number, meaning in _numbers(weight, use):
        yield number, meaning, float(use.fan_in)


def _numbers(weight: Weight, use: Use) -> Iterator[tuple[float, str]]:
    """Numbers that are taken for the fan-in, and what they are."""
    shape, stored = weight.shape, theory.fans(weight.shape)
    receptive = prod(shape[2:]) if use.role == "kernel" else 1
    assert use.fan_in
    if use.fan_out:
        yield use.fan_out, "its fan-out"
    if stored is not None:
        yield stored[0], "dimension 1 times the rest of its shape"
        yield stored[1], "its channels over all groups" if use.groups > 1 else "dimension 0 times the rest"
    if receptive > 1:
        yield use.fan_in / receptive, "its inputs without the receptive field"
        yield shape[0], "its channels without the receptive field"
        yield receptive, "its receptive field alone"
    if use.groups > 1:
        yield use.fan_in * use.groups, "the inputs of all groups"
        yield use.fan_in / use.groups, "its inputs divided by the groups twice"
    if use.fused > 1 and use.fan_out:
        yield use.fan_out / use.fused, "the outputs of one of its parts"
    yield from ((size, f"dimension {axis} of its shape") for axis, size in enumerate(shape))
    if use.activation != "softmax":  # T5 folds the scale of its scores into the queries: 1/√(d·d)
        yield prod(shape), "all of its elements"


# ---------------------------------------------------------------- draws known by their values only


def _of_values(weight: Weight, use: Use) -> Misreading | None:
    """The recognised scheme, where every scheme that fits takes its scale from another fan."""
    schemes = [scheme for scheme in weight.schemes if scheme.fit == "all"]
    if weight.elements < FEWEST or not schemes or not schemes[0].fan or not use.fan_in:
        return None
    scheme = schemes[0]
    if any(
        s.fan is None and s.gain is None and s.std > 0 and _plain(_written(s.std, s.bound)) for s in schemes
    ):
        return None
    right = {*_inputs(weight, use), *(_outputs(weight, use) if use.role == "kernel" else ())}
    if any((s.fan_mode == "fan_avg" and s.reading == "true") or s.fan in right for s in schemes):
        return None
    assert scheme.fan
    place = "its fan-out" if scheme.reading == "true" else f"the stored shape {weight.shape}"
    text = f"its values fit {scheme.text} with {scheme.fan} from {place}"
    return Misreading(text, scheme.fan, use.fan_in, "fan_in", scheme.gain or 1.0, "values")


def _written(std: float, bound: float | None) -> float:
    return bound if bound is not None else std


# ---------------------------------------------------------------- formulas without their root


@dataclass(frozen=True, slots=True)
class RootSlip:
    """A number whose formula lacks its square root, or takes it twice."""

    written: float
    formula: str  # "2/32"
    meant: float  # its root
    text: str  # what is wrong with the number


def root_slip(weight: Weight) -> RootSlip | None:
    """The std or bound that was written down for a weight, if its formula has the wrong number of roots."""
    use, write = weight.use, weight.provenance.last_write
    if not use.fan_in or write is None or write.default or use.reaches_output:
        return None  # 1/fan_in is a known scale of a head (Yang et al., Tensor Programs V, 2022)
    asked = _asked(weight, write)
    if asked is None or _picked(write, asked[1]) or use.activation == "softmax":
        return None
    if _is_right(weight, use, asked[0]):
        return None
    bound = asked[0] != asked[1]
    sizes = {f"{use.fan_in}": use.fan_in}
    if use.fan_out:
        sizes[f"({use.fan_in}+{use.fan_out})"] = use.fan_in + use.fan_out
    for text, size in sizes.items():
        for numerator in (6, 3, 1) if bound else (2, 1):
            formula, root = f"{numerator}/{text}", sqrt(numerator / size)
            if isclose(asked[1], numerator / size, rel_tol=EXACT):
                left = f"{asked[1]:.3g} = {formula} scales the draw, the square root is left out"
                return RootSlip(asked[1], formula, root, left)
            if numerator > 1 and isclose(asked[1], sqrt(numerator) / size, rel_tol=EXACT):
                early = f"{asked[1]:.3g} = √{numerator}/{text} scales the draw, the root ends too early"
                return RootSlip(asked[1], formula, root, early)
            if sqrt(size) % 1 and isclose(asked[1], sqrt(numerator / sqrt(size)), rel_tol=EXACT):
                twice = f"{asked[1]:.3g} = √({numerator}/√{text}) scales the draw, the root is taken twice"
                return RootSlip(asked[1], formula, root, twice)
    return None


def visible_root_slips(model: Evidence, times: float) -> Iterator[tuple[Weight, RootSlip]]:
    """Weights whose scale lost a root on its way, by this factor at least and with nothing that undoes it."""
    for weight in model.weights:
        slip = root_slip(weight)
        if slip is None or is_restored(model, weight):
            continue
        if max(slip.meant / slip.written, slip.written / slip.meant) >= times:
            yield weight, slip
