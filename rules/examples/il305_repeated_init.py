"""Models for IL305 repeated-init."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example


def wrong_name_pasted() -> nn.Module:
    class ActorCritic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy, self.value = nn.Linear(8, 4), nn.Linear(8, 1)
            nn.init.orthogonal_(self.value.weight, gain=1.0)
            nn.init.orthogonal_(self.value.weight, gain=0.01)

    return ActorCritic()


def scaled_in_constructor_and_again() -> nn.Module:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(0.1, 1, 8))
            self.reset_parameters()

        def reset_parameters(self) -> None:
            self.weight.data.mul_(0.1)

    model = nn.Sequential(Gate(), Gate())
    for gate in model:
        assert isinstance(gate, Gate)
        gate.reset_parameters()
    return model


def first_member_at_each_turn(*, right: bool = False) -> nn.Module:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleList(nn.Linear(8, 4) for _ in range(3))
            for i, stride in enumerate((8, 16, 32)):
                bias = self.heads.get_parameter(f"{i if right else 0}.bias")
                nn.init.constant_(bias, -4.0 - stride / 32)

    return Detector()


def scaled_once_for_each_parent(*, fresh: bool = False) -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(8, 8), nn.Linear(8, 8)

    def initialise(module: nn.Module) -> None:
        for name, parameter in module.named_parameters():
            if name.endswith("out.weight"):
                with torch.no_grad():
                    if fresh:
                        nn.init.normal_(parameter, std=0.02)
                    parameter.mul_(0.5)

    return nn.Sequential(nn.Sequential(Block(), Block())).apply(initialise)


def each_member_at_its_turn() -> nn.Module:
    return first_member_at_each_turn(right=True)


def drawn_and_scaled_for_each_parent() -> nn.Module:
    return scaled_once_for_each_parent(fresh=True)


def divided_by_its_norm_in_a_loop() -> nn.Module:
    model = nn.Linear(8, 8)
    for _ in range(5):
        model.weight.data.div_(model.weight.data.norm().item())
    return model


def drawn_afresh_and_scaled() -> nn.Module:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(8))
            self.reset_parameters()

        def reset_parameters(self) -> None:
            nn.init.uniform_(self.weight)
            self.weight.data.mul_(0.1)

    model = nn.Sequential(Gate(), Gate())
    for gate in model:
        assert isinstance(gate, Gate)
        gate.reset_parameters()
    return model


def general_then_particular() -> nn.Module:
    class ActorCritic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy, self.value = nn.Linear(8, 4), nn.Linear(8, 1)
            for layer in (self.policy, self.value):
                nn.init.orthogonal_(layer.weight, gain=1.0)
            nn.init.orthogonal_(self.policy.weight, gain=0.01)

    return ActorCritic()


examples = (
    Example(wrong_name_pasted, finds=("value.weight", "policy.weight")),
    Example(scaled_in_constructor_and_again, finds=("{0,1}.weight",)),
    Example(first_member_at_each_turn, finds=("heads.{0..2}.bias",)),
    Example(scaled_once_for_each_parent, finds=("0.{0,1}.out.weight",)),
    Example(drawn_afresh_and_scaled),
    Example(each_member_at_its_turn),
    Example(drawn_and_scaled_for_each_parent),
    Example(divided_by_its_norm_in_a_loop),
    Example(general_then_particular),
)
