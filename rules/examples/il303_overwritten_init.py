"""Models for IL303 overwritten-init."""

from __future__ import annotations

import torch
from torch import nn

from initlint import Example


def zero_head_overwritten() -> nn.Module:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 16)
            self.outer = nn.Linear(16, 8)
            nn.init.zeros_(self.outer.weight)

    def xavier(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)

    return nn.Sequential(Residual(), Residual()).apply(xavier)


def loaded_then_drawn_again() -> nn.Module:
    def body() -> nn.Sequential:
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    model = nn.ModuleDict({"body": body(), "head": nn.Linear(8, 2)})
    model["body"].load_state_dict(body().state_dict())
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
    return model


def word_vectors_drawn_again() -> nn.Module:
    def vectors() -> torch.Tensor:
        return torch.randn(16, 8) * 0.4

    table = nn.Embedding(16, 8, _weight=vectors())
    model = nn.ModuleDict({"words": table, "inner": nn.Linear(8, 8), "outer": nn.Linear(8, 2)})
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return model


def word_vectors_left_alone() -> nn.Module:
    def vectors() -> torch.Tensor:
        return torch.randn(16, 8) * 0.4

    table = nn.Embedding(16, 8, _weight=vectors())
    model = nn.ModuleDict({"words": table, "inner": nn.Linear(8, 8), "outer": nn.Linear(8, 2)})
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    return model


def default_draws_replaced() -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 16)
            self.outer = nn.Linear(16, 8)
            nn.init.kaiming_normal_(self.inner.weight)
            nn.init.zeros_(self.inner.bias)

    def xavier(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)

    return nn.Sequential(Block(), Block()).apply(xavier)


def special_after_blanket() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    nn.init.zeros_(model.get_parameter("2.weight"))
    return model


def new_head_on_a_loaded_body() -> nn.Module:
    def net() -> nn.Sequential:
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    model = net()
    model.load_state_dict(net().state_dict())
    nn.init.normal_(model.get_parameter("2.weight"), std=0.02)
    return model


examples = (
    Example(zero_head_overwritten, finds=("{0,1}.outer.weight",)),
    Example(loaded_then_drawn_again, finds=("body.{0,2}.weight",)),
    Example(word_vectors_drawn_again, finds=("words.weight",)),
    Example(word_vectors_left_alone),
    Example(default_draws_replaced),
    Example(special_after_blanket),
    Example(new_head_on_a_loaded_body),
)
