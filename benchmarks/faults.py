"""Initialisation faults, written into healthy models by the calls that people make."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from benchmarks.architectures import Architecture

Names = tuple[str, ...]
RECURRENT = (nn.LSTM, nn.GRU, nn.GRUCell)
OUTPUTS_FIRST = (nn.Linear, nn.Conv1d, nn.Conv2d, *RECURRENT)  # store weights as (outputs, inputs, …)


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    `places` lists where it can stand in a healthy model, `write` puts it there and returns the names
    of the parameters and modules that carry it. `real` says how it is told from a harmless change: by a
    training that suffers, by parameters that never move, or by nature.
    """

    name: str
    places: Callable[[Architecture, nn.Module], list[str]]
    write: Callable[[nn.Module, str], Names]
    real: str = "training"  # "training", "stays zero", "by nature"
    skips: bool = False  # the place is left out of the initialiser instead of being written to

    def build(self, architecture: Architecture, place: str) -> nn.Module:
        """The model with the fault in it."""
        return self.inject(architecture, place)[0]

    def inject(self, architecture: Architecture, place: str) -> tuple[nn.Module, Names]:
        """The model with the fault in it, and the names of what carries it."""
        model = architecture.build(skip={place} if self.skips else ())
        return model, self.write(model, place)


# ---------------------------------------------------------------- places


def owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a parameter or child, and its local name."""
    path, _, local = name.rpartition(".")
    return model.get_submodule(path), local


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Trainable matrices and kernels with at least two inputs and two outputs."""
    return {
        name: weight
        for name, weight in model.named_parameters()
        if weight.dim() >= 2
        and weight.requires_grad
        and min(weight.shape[:2]) > 1
        and not isinstance(owner(model, name)[0], nn.Embedding)
        and name.rpartition(".")[2].startswith(("weight", "w1", "w2", "visual_proj", "text_proj"))
    }


def all_weights(architecture: Architecture, model: nn.Module) -> list[str]:
    return list(weights(model))


def hidden_weights(architecture: Architecture, model: nn.Module) -> list[str]:
    """Weights for which a small value is not a known choice."""
    return [name for name in weights(model) if not architecture.may_be_small(name)]


def squashed_weights(architecture: Architecture, model: nn.Module) -> list[str]:
    return [name for name in weights(model) if architecture.is_squashed(name)]


def weights_and_embeddings(architecture: Architecture, model: nn.Module) -> list[str]:
    return [*weights(model), *tables(architecture, model)]


def tables(architecture: Architecture, model: nn.Module) -> list[str]:
    """Embeddings, if there are several that may be added to each other."""
    found = [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)]
    return found if len(found) > 1 else []


def branch_ends(architecture: Architecture, model: nn.Module) -> list[str]:
    """Weights but the last that may be small: most of them end a residual branch."""
    return [name for name in list(weights(model))[:-1] if architecture.may_be_small(name)]


def last_weight(architecture: Architecture, model: nn.Module) -> list[str]:
    """The head, in nearly every model."""
    return list(weights(model))[-1:]


def zeros_in_series(architecture: Architecture, model: nn.Module) -> list[str]:
    """Single hidden weights, and modules that hold several of them."""
    blocks = {name.rpartition(".")[0].rpartition(".")[0] for name in weights(model)} - {""}
    return [*hidden_weights(architecture, model), *sorted(blocks)]


def uneven_weights(architecture: Architecture, model: nn.Module) -> list[str]:
    """Weights of Linear and Conv layers whose fan_in and fan_out differ at least four times."""
    return [
        name
        for name, weight in weights(model).items()
        if max(weight.shape[:2]) >= 4 * min(weight.shape[:2])
        and isinstance(owner(model, name)[0], nn.Linear | nn.Conv1d | nn.Conv2d)
    ]


def uneven_matrices(architecture: Architecture, model: nn.Module) -> list[str]:
    """Likewise for matrices that are, or can be, stored as (inputs, outputs)."""
    return [
        name
        for name, weight in weights(model).items()
        if max(weight.shape[-2:]) >= 4 * min(weight.shape[-2:])
        and weight.dim() == 2
        and not isinstance(owner(model, name)[0], RECURRENT)
    ]


def whole_model(architecture: Architecture, model: nn.Module) -> list[str]:
    return [""]


def plain_stacks(architecture: Architecture, model: nn.Module) -> list[str]:
    """The whole model, if it is deep and nothing normalises its signal."""
    return [""] if len(weights(model)) >= 4 and not normalisations(architecture, model) else []


def rectified_stacks(architecture: Architecture, model: nn.Module) -> list[str]:
    """The whole model, if it is a plain stack of ReLU layers."""
    rectified = any(isinstance(module, nn.ReLU) for module in model.modules())
    return plain_stacks(architecture, model) if rectified else []


def normalisations(architecture: Architecture, model: nn.Module) -> list[str]:
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if "Norm" in type(module).__name__ and isinstance(getattr(module, "weight", None), Tensor)
    ]


def biases(architecture: Architecture, model: nn.Module) -> list[str]:
    return [
        f"{name}.bias"
        for name, module in model.named_modules()
        if isinstance(getattr(module, "bias", None), Tensor) and f"{name}.weight" in weights(model)
    ]


def skippable(architecture: Architecture, model: nn.Module) -> list[str]:
    """Modules of families of at least three whose weights the initialiser changes at least twofold."""
    if architecture.init is None:
        return []
    found = []
    for name, weight in weights(model).items():
        path = name.rpartition(".")[0]
        siblings = [
            other for other, w in weights(model).items() if kin(name, other) and w.shape == weight.shape
        ]
        if path and len(siblings) >= 3:
            left = architecture.build(skip={path}).get_parameter(name).std().item()
            if not weight.any() or abs(math.log(left / weight.std().item())) > math.log(2):
                found.append(path)
    return sorted(set(found))


def kin(name: str, other: str) -> bool:
    """The names differ in indices and trailing digits only."""
    strip = str.maketrans("", "", "0123456789")
    return name.translate(strip) == other.translate(strip)


def copies(architecture: Architecture, model: nn.Module) -> list[str]:
    """Second and later of equally shaped modules in one list, if they hold random values."""
    return [
        f"{path}.{key}".lstrip(".")
        for path, container in model.named_modules()
        if isinstance(container, nn.ModuleList | nn.Sequential)
        for key, module in container.named_children()
        if int(key) > 0 and twin(container, module) is not None and weights(module)
    ]


def twin(container: nn.Module, module: nn.Module) -> str | None:
    """The first other module of the container with the same class and shapes."""

    def shapes(m: nn.Module) -> list[torch.Size]:
        return [p.shape for p in m.parameters()]

    for key, sibling in container.named_children():
        if sibling is not module and type(sibling) is type(module) and shapes(sibling) == shapes(module):
            return key
    return None


def hideable(architecture: Architecture, model: nn.Module) -> list[str]:
    """Modules that a plain attribute can stand in for, with parameters that are found nowhere else."""
    return [
        path
        for path, module in model.named_modules()
        if path
        and any(name.startswith(f"{path}.") for name, _ in model.named_parameters())
        and not isinstance(owner(model, path)[0], nn.ModuleList | nn.Sequential)
        and runs(architecture, path)
    ]


def runs(architecture: Architecture, path: str) -> bool:
    model = architecture.build()
    hide(model, path)
    try:
        model(*architecture.inputs())
    except (AttributeError, TypeError):  # something reads an attribute of the hidden module
        return False
    return True


# ---------------------------------------------------------------- faults


def constant(value: float) -> Callable[[nn.Module, str], Names]:
    """One weight, or every weight, filled with a value."""

    def write(model: nn.Module, place: str) -> Names:
        chosen = [place] if place else list(weights(model))
        for name in chosen:
            nn.init.constant_(model.get_parameter(name), value)
        return tuple(chosen)

    return write


def scaled(factor: float) -> Callable[[nn.Module, str], Names]:
    def write(model: nn.Module, place: str) -> Names:
        with torch.no_grad():
            model.get_parameter(place).mul_(factor)
        return (place,)

    return write


def zeros(model: nn.Module, place: str) -> Names:
    """Weight and bias of one layer, or of every layer of a block."""
    chosen = [name for name in weights(model) if name == place or name.startswith(place + ".")]
    for name in chosen:
        nn.init.zeros_(model.get_parameter(name))
        layer = owner(model, name)[0]
        if isinstance(getattr(layer, "bias", None), Tensor):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return (place, *chosen)


def redrawn(gain: float) -> Callable[[nn.Module, str], Names]:
    """One weight, or every weight, drawn with a gain."""

    def write(model: nn.Module, place: str) -> Names:
        chosen = [place] if place else list(weights(model))
        for name in chosen:
            nn.init.normal_(model.get_parameter(name), std=gain / math.sqrt(inputs_of(model, name)))
        return tuple(chosen)

    return write


def linear_gain(model: nn.Module, place: str) -> Names:
    """Every weight with the gain of a linear layer, though a ReLU follows."""
    for name in weights(model):
        nn.init.normal_(model.get_parameter(name), std=1 / math.sqrt(inputs_of(model, name)))
    return tuple(weights(model))


def inputs_of(model: nn.Module, name: str) -> int:
    """The true fan-in of a weight."""
    weight, layer = model.get_parameter(name), owner(model, name)[0]
    if isinstance(layer, nn.ConvTranspose2d):
        return weight[:, 0].numel() // math.prod(layer.stride)
    return weight[0].numel() if isinstance(layer, OUTPUTS_FIRST) else weight.shape[-2]


def wrong_fan(model: nn.Module, place: str) -> Names:
    nn.init.kaiming_normal_(model.get_parameter(place), mode="fan_out", nonlinearity="relu")
    return (place,)


class InOut(nn.Module):
    """Linear layer with a weight of shape (inputs, outputs)."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis."""
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


def transposed_fan(model: nn.Module, place: str) -> Names:
    """kaiming_normal_ on a weight of shape (inputs, outputs): it reads the outputs as fan-in."""
    layer = owner(model, place)[0]
    if isinstance(layer, nn.Linear):
        path = place.rpartition(".")[0]
        model.set_submodule(path, InOut(layer.in_features, layer.out_features, layer.bias is not None))
    else:
        nn.init.kaiming_normal_(model.get_parameter(place))
    return (place,)


def skipped(model: nn.Module, place: str) -> Names:
    return (place, *(name for name in weights(model) if name.startswith(place + ".")))


def random_gain(model: nn.Module, place: str) -> Names:
    nn.init.normal_(model.get_parameter(place), 0, 0.02)
    return (place,)


def clone(model: nn.Module, place: str) -> Names:
    """A layer that is a deep copy of its sibling; either of the two may be named."""
    container, _ = owner(model, place)
    key = twin(container, model.get_submodule(place))
    original = f"{place.rpartition('.')[0]}.{key}".lstrip(".")
    model.set_submodule(place, copy.deepcopy(model.get_submodule(original)))
    return (place, original)


def hide(model: nn.Module, place: str) -> Names:
    """A list in place of a ModuleList, a function in place of any other module."""
    parent, local = owner(model, place)
    child = model.get_submodule(place)
    delattr(parent, local)
    if isinstance(child, nn.ModuleList):
        setattr(parent, local, list(child))
    else:
        setattr(parent, local, lambda *args: child(*args))
    return (place,)


def frozen(model: nn.Module, place: str) -> Names:
    model.get_parameter(place).requires_grad_(False)
    return (place,)


def unwritten(model: nn.Module, place: str) -> Names:
    layer, local = owner(model, place)
    setattr(layer, local, nn.Parameter(torch.empty(model.get_parameter(place).shape)))
    return (place,)


FAULTS: tuple[Fault, ...] = (
    Fault("constant 0.05", all_weights, constant(0.05)),
    Fault("constant 0.5", all_weights, constant(0.5)),
    Fault("constant 1", all_weights, constant(1.0)),
    Fault("constant 0.05, all layers", whole_model, constant(0.05)),
    Fault("zero", zeros_in_series, zeros, real="stays zero"),
    Fault("× 100", weights_and_embeddings, scaled(100)),
    Fault("× 0.01", hidden_weights, scaled(0.01)),
    Fault("gain 3, one layer", all_weights, redrawn(3.0)),
    Fault("gain 3, plain stack", plain_stacks, redrawn(3.0)),
    Fault("linear gain before ReLU", rectified_stacks, linear_gain),
    Fault("wrong fan", uneven_weights, wrong_fan),
    Fault("transposed fan", uneven_matrices, transposed_fan),
    Fault("missing layer", skippable, skipped, real="by nature", skips=True),
    Fault("norm gain ~ N(0, 0.02)", normalisations, random_gain),
    Fault("bias 10", biases, constant(10)),
    Fault("bias -10", biases, constant(-10)),
    Fault("clone", copies, clone, real="by nature"),
    Fault("unregistered", hideable, hide, real="by nature"),
    Fault("frozen", all_weights, frozen, real="by nature"),
    Fault("uninitialised", all_weights, unwritten, real="by nature"),
    Fault("saturating", squashed_weights, scaled(30)),
)

FAULT_BY_NAME = {fault.name: fault for fault in FAULTS}


# ---------------------------------------------------------------- is it a fault?

STEPS = 20  # of Adam: healthy models of the benchmarks lose a third of their loss and more
RATE = 1e-3  # its learning rate, the default of torch.optim
SEEDS = 5  # healthy models that a faulty one is compared with


@dataclass(frozen=True, slots=True)
class Training:
    """A few steps of training: the loss at their end, and how far each parameter moved, relative to itself.

    Parameters that start at zero have no measure of their own and are left out. For weights whose small
    scale is a choice the measure is a gain of one, where they are smaller.
    """

    loss: float
    moved: dict[str, float]


def is_real(fault: Fault, architecture: Architecture, place: str, effect: float) -> bool:
    """The fault harms the training, in plain torch.

    "training": the loss after a few steps is worse than in the worst of some healthy models that differ
    in their seeds, by more than these differ; or some parameter is out of step: relative to its own size
    it moves `effect` times less, or more, than in any of the healthy models. What neither slows the
    training nor stops or uproots a parameter is no fault: three times the usual scale in front of a
    normalisation, for example; nor is what trains better than all of them by as much. "stays zero": some
    parameter that moves in the healthy models never does.
    """
    if fault.real == "by nature":
        return True
    healthy = healthy_trainings(architecture)
    after = train(architecture, seeded(lambda: fault.build(architecture, place)))
    if fault.real == "stays zero":
        return any(
            not moved and all(run.moved.get(name) for run in healthy) for name, moved in after.moved.items()
        )
    losses = [run.loss for run in healthy]
    spread = max(losses) - min(losses)
    if not after.loss <= max(losses) + spread:
        return True
    return after.loss >= min(losses) - spread and out_of_step(healthy, after) >= effect


def out_of_step(healthy: Sequence[Training], after: Training) -> float:
    """How many times farther, or less far, the most deviant parameter moved than in any healthy model."""
    factors = [1.0]
    for name, moved in after.moved.items():
        usual = [run.moved[name] for run in healthy if run.moved.get(name)]
        if len(usual) == len(healthy):
            factors += [moved / max(usual), min(usual) / max(moved, 1e-30)]
    return max(factors)


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build()


@cache
def healthy_trainings(architecture: Architecture) -> tuple[Training, ...]:
    return tuple(train(architecture, seeded(architecture.build, seed)) for seed in range(SEEDS))


def train(architecture: Architecture, model: nn.Module) -> Training:
    """Train on two batches in turn, the same for every model."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    start = {name: parameter.detach().clone() for name, parameter in trained.items()}
    optimiser = torch.optim.Adam(trained.values(), RATE)
    losses = []
    for step in range(STEPS):
        torch.manual_seed(-1 - step % 2)  # not those of the models
        optimiser.zero_grad()
        loss = architecture.loss(model(*architecture.inputs()))
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        optimiser.step()
    moved = {
        name: (trained[name].detach() - before).norm().item() / size(architecture, model, name, before)
        for name, before in start.items()
        if before.any()
    }
    return Training(sum(losses[-2:]) / 2, moved)


def size(architecture: Architecture, model: nn.Module, name: str, start: Tensor) -> float:
    """What a movement is measured by."""
    norm = float(start.norm())
    if start.dim() < 2 or not architecture.may_be_small(name):
        return norm
    return max(norm, math.sqrt(start.numel() / inputs_of(model, name)))
