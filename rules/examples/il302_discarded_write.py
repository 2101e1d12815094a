"""Models for IL302 discarded-write."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from initlint import Example


def written_under_weight_norm() -> nn.Module:
    layer = nn.Conv1d(4, 8, 3)
    weight_norm(layer)
    nn.init.normal_(layer.weight, std=0.01)
    return nn.Sequential(layer, nn.ReLU())


def clone_written() -> nn.Module:
    model = nn.Linear(4, 8)
    nn.init.orthogonal_(model.weight.clone())
    return model


def tensor_never_copied() -> nn.Module:
    model = nn.Linear(4, 8)
    wanted = torch.empty(8, 4)
    nn.init.orthogonal_(wanted)
    return model


def rows_picked_by_a_list() -> nn.Module:
    model = nn.Embedding(8, 4)
    model.weight.data[[0, 1]].zero_()
    return model


def layer_replaced_after_init() -> nn.Module:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 4)
            nn.init.zeros_(self.head.weight)
            self.head = nn.Linear(8, 2)

    return Classifier()


def parameter_handed_to_a_test_for_modules() -> nn.Module:
    def init_weights(module: object) -> None:
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.get_parameter("weight"))

    model = nn.Linear(4, 8)
    init_weights(model.weight)
    return model


def parameter_handed_to_a_helper_for_modules(*, right: bool = False) -> nn.Module:
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
    model = nn.Linear(4, 8)
    model.weight.data.mul(0.1)
    return model


def loop_variable_rebound() -> nn.Module:
    model = nn.RNN(4, 8)
    parameter: torch.Tensor
    for name, parameter in model.named_parameters():
        if "weight_hh" in name:
            parameter = torch.eye(8)
        elif "weight" in name:
            nn.init.xavier_uniform_(parameter)
    return model


def alias_scaled() -> nn.Module:
    model = nn.Linear(4, 8)
    weight = model.weight.data
    weight = weight * 0.1
    return model


def state_dict_never_loaded() -> nn.Module:
    model = nn.Linear(4, 8)
    state = model.state_dict()
    state["weight"] = state["weight"] * 0.01
    return model


def state_dict_loaded() -> nn.Module:
    model = nn.Linear(4, 8)
    state = model.state_dict()
    state["weight"] = state["weight"] * 0.01
    model.load_state_dict(state)
    return model


def alias_scaled_and_copied_back() -> nn.Module:
    model = nn.Linear(4, 8)
    weight = model.weight.data
    weight = weight * 0.1
    model.weight.data = weight
    return model


def loop_variable_rebound_for_a_check() -> nn.Module:
    model = nn.Linear(4, 8)
    parameter: torch.Tensor
    for parameter in model.parameters():
        parameter = parameter * 0.5
        if not torch.isfinite(parameter).all():
            raise ValueError
    return model


def state_dict_kept_for_later() -> nn.Module:
    def halved(module: nn.Module) -> dict[str, Any]:
        state = module.state_dict()
        state["weight"] = state["weight"] * 0.5
        return state

    model = nn.Linear(4, 8)
    halved(model)
    return model


def written_before_weight_norm() -> nn.Module:
    layer = nn.Conv1d(4, 8, 3)
    nn.init.normal_(layer.weight, std=0.01)
    return nn.Sequential(weight_norm(layer), nn.ReLU())


def temporary_copied_back() -> nn.Module:
    model = nn.Linear(4, 8)
    with torch.no_grad():
        model.weight.copy_(nn.init.orthogonal_(torch.empty(4, 8)).T.clone())
    return model


def head_replaced_for_a_new_task() -> nn.Module:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 4)
            nn.init.zeros_(self.head.weight)

    model = Classifier()
    model.head = nn.Linear(8, 2)
    return model


examples = (
    Example(written_under_weight_norm, finds=("0",)),
    Example(clone_written, finds=("weight",)),
    Example(tensor_never_copied, finds=("weight",)),
    Example(rows_picked_by_a_list, finds=("weight",)),
    Example(layer_replaced_after_init, finds=("head.weight",)),
    Example(parameter_handed_to_a_test_for_modules, finds=("weight",)),
    Example(parameter_handed_to_a_helper_for_modules, finds=("{0,2}.weight",)),
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
