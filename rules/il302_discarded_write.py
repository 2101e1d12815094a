"""IL302 discarded-write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from initlint import Example, Location, Rule
from initlint.analysis.locations import said, way

if TYPE_CHECKING:
    from torch import nn

    from initlint import Evidence, Finding, LostWrite


def written_under_weight_norm() -> nn.Module:
    from torch import nn
    from torch.nn.utils.parametrizations import weight_norm

    layer = nn.Conv1d(4, 8, 3)
    weight_norm(layer)
    nn.init.normal_(layer.weight, std=0.01)
    return nn.Sequential(layer, nn.ReLU())


def clone_written() -> nn.Module:
    from torch import nn

    model = nn.Linear(4, 8)
    nn.init.orthogonal_(model.weight.clone())
    return model


def tensor_never_copied() -> nn.Module:
    import torch
    from torch import nn

    model = nn.Linear(4, 8)
    wanted = torch.empty(8, 4)
    nn.init.orthogonal_(wanted)
    return model


def rows_picked_by_a_list() -> nn.Module:
    from torch import nn

    model = nn.Embedding(8, 4)
    model.weight.data[[0, 1]].zero_()
    return model


def layer_replaced_after_init() -> nn.Module:
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 4)
            nn.init.zeros_(self.head.weight)
            self.head = nn.Linear(8, 2)

    return Classifier()


def parameter_handed_to_a_test_for_modules() -> nn.Module:
    from torch import nn

    def init_weights(module: object) -> None:
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.get_parameter("weight"))

    model = nn.Linear(4, 8)
    init_weights(model.weight)
    return model


def parameter_handed_to_a_helper_for_modules(*, right: bool = False) -> nn.Module:
    from torch import nn

    def normal_init(module: object, std: float) -> None:
        if hasattr(module, "weight") and module.weight is not None:
            nn.init.normal_(module.weight, std=std)

    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    for layer in model:
        if isinstance(layer, nn.Linear):
            normal_init(layer if right else layer.weight, 0.02)
    return model


def module_handed_to_a_helper_for_modules() -> nn.Module:
    return parameter_handed_to_a_helper_for_modules(right=True)


def scaled_out_of_place() -> nn.Module:
    from torch import nn

    model = nn.Linear(4, 8)
    model.weight.data.mul(0.1)
    return model


def loop_variable_rebound() -> nn.Module:
    import torch
    from torch import nn

    model = nn.RNN(4, 8)
    parameter: torch.Tensor
    for name, parameter in model.named_parameters():
        if "weight_hh" in name:
            parameter = torch.eye(8)
        elif "weight" in name:
            nn.init.xavier_uniform_(parameter)
    return model


def alias_scaled() -> nn.Module:
    from torch import nn

    model = nn.Linear(4, 8)
    weight = model.weight.data
    weight = weight * 0.1
    return model


def state_dict_never_loaded() -> nn.Module:
    from torch import nn

    model = nn.Linear(4, 8)
    state = model.state_dict()
    state["weight"] = state["weight"] * 0.01
    return model


def state_dict_loaded() -> nn.Module:
    from torch import nn

    model = nn.Linear(4, 8)
    state = model.state_dict()
    state["weight"] = state["weight"] * 0.01
    model.load_state_dict(state)
    return model


def alias_scaled_and_copied_back() -> nn.Module:
    from torch import nn

    model = nn.Linear(4, 8)
    weight = model.weight.data
    weight = weight * 0.1
    model.weight.data = weight
    return model


def loop_variable_rebound_for_a_check() -> nn.Module:
    import torch
    from torch import nn

    model = nn.Linear(4, 8)
    parameter: torch.Tensor
    for parameter in model.parameters():
        parameter = parameter * 0.5
        if not torch.isfinite(parameter).all():
            raise ValueError
    return model


def state_dict_kept_for_later() -> nn.Module:
    from typing import Any

    from torch import nn

    def halved(module: nn.Module) -> dict[str, Any]:
        state = module.state_dict()
        state["weight"] = state["weight"] * 0.5
        return state

    model = nn.Linear(4, 8)
    halved(model)
    return model


def written_before_weight_norm() -> nn.Module:
    from torch import nn
    from torch.nn.utils.parametrizations import weight_norm

    layer = nn.Conv1d(4, 8, 3)
    nn.init.normal_(layer.weight, std=0.01)
    return nn.Sequential(weight_norm(layer), nn.ReLU())


def temporary_copied_back() -> nn.Module:
    import torch
    from torch import nn

    model = nn.Linear(4, 8)
    with torch.no_grad():
        model.weight.copy_(nn.init.orthogonal_(torch.empty(4, 8)).T.clone())
    return model


def head_replaced_for_a_new_task() -> nn.Module:
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 4)
            nn.init.zeros_(self.head.weight)

    model = Classifier()
    model.head = nn.Linear(8, 2)
    return model


class DiscardedWrite(Rule):
    """An initialisation that changed nothing in the finished model.

    The write went to a temporary (a clone, rows picked by a list, a weight that a parametrization
    recomputes at every use, a variable, a dict that is never loaded) or to a layer that was replaced
    afterwards. The parameter keeps what it held
    before, without a word.

    Write to the parameter itself: before weight_norm or spectral_norm is applied, through a slice instead
    of a list of rows, and after the last replacement of the layer.
    """

    code = "IL302"
    name = "discarded-write"
    severity = "error"
    needs = frozenset({"provenance"})
    examples = (
        Example(written_under_weight_norm, finds=("0",)),
        Example(clone_written, finds=("weight",)),
        Example(tensor_never_copied, finds=("weight",)),
        Example(rows_picked_by_a_list, finds=("weight",)),
        Example(layer_replaced_after_init, finds=("head.weight",)),
        Example(parameter_handed_to_a_test_for_modules, finds=("weight",)),
        Example(parameter_handed_to_a_helper_for_modules, finds=("0.weight", "2.weight")),
        Example(module_handed_to_a_helper_for_modules),
        Example(scaled_out_of_place, finds=("weight",)),
        Example(loop_variable_rebound, finds=("weight_hh_l0",)),
        Example(alias_scaled, finds=("weight",)),
        Example(state_dict_never_loaded, finds=("weight",)),
        Example(state_dict_loaded),
        Example(alias_scaled_and_copied_back),
        Example(loop_variable_rebound_for_a_check),
        Example(state_dict_kept_for_later),
        Example(written_before_weight_norm),
        Example(temporary_copied_back),
        Example(head_replaced_for_a_new_task),
    )

    _remedies = {
        "parametrized": "initialise the layer before the parametrization is applied",
        "temporary": "write to the parameter itself, under torch.no_grad()",
        "replaced": "initialise after the last assignment to this name",
        "detached": "write after the last assignment to .data",
        "unused": "use the in-place operation, or copy the result into the parameter",
        "entry": "load the dict with load_state_dict, or write to the parameter itself",
    }

    def check(self, model: Evidence) -> Iterator[Finding]:
        for lost, *before in _together(model.lost_writes):
            yield self.finding(
                lost,
                f"what {said(lost.write)} wrote is in no parameter of the model: {lost.detail}",
                measured={"surviving writes": 0},
                expected={"surviving writes": 1},
                help=self._remedies[lost.reason],
                locations=(*way(lost.write), *(Location(b.write.site, "lost before it") for b in before)),
            )
        for test in model.member_tests:
            if test.kind == "object":
                yield self.finding(
                    test.near[0],
                    f"{test.detail}: nothing was written",
                    measured={"surviving writes": 0},
                    expected={"surviving writes": 1},
                    help="hand over the module that holds the parameter",
                    site=test.caller,
                    locations=[Location(test.site, f"never true for a parameter: {test.text}")],
                )


def _together(lost: Iterable[LostWrite]) -> Iterator[list[LostWrite]]:
    """Writes that one parameter lost for one reason, the last one first."""
    groups: dict[object, list[LostWrite]] = {}
    for entry in lost:
        alone = entry.write if not entry.subject else None
        groups.setdefault((entry.subject, entry.reason, entry.detail, alone), []).append(entry)
    for group in groups.values():
        yield sorted(group, key=lambda entry: -entry.write.order)
