"""IL305 repeated-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Example, Location, Rule
from initlint.analysis.locations import at, said, way
from initlint.analysis.rewrites import repetitions, slips, stuck

if TYPE_CHECKING:
    from torch import nn

    from initlint import Evidence, Finding


def wrong_name_pasted() -> nn.Module:
    from torch import nn

    class ActorCritic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy, self.value = nn.Linear(8, 4), nn.Linear(8, 1)
            nn.init.orthogonal_(self.value.weight, gain=1.0)
            nn.init.orthogonal_(self.value.weight, gain=0.01)

    return ActorCritic()


def scaled_in_constructor_and_again() -> nn.Module:
    import torch
    from torch import nn

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
    from torch import nn

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleList(nn.Linear(8, 4) for _ in range(3))
            for i, stride in enumerate((8, 16, 32)):
                bias = self.heads.get_parameter(f"{i if right else 0}.bias")
                nn.init.constant_(bias, -4.0 - stride / 32)

    return Detector()


def scaled_once_for_each_parent(*, fresh: bool = False) -> nn.Module:
    import torch
    from torch import nn

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
    from torch import nn

    model = nn.Linear(8, 8)
    for _ in range(5):
        model.weight.data.div_(model.weight.data.norm().item())
    return model


def drawn_afresh_and_scaled() -> nn.Module:
    import torch
    from torch import nn

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
    from torch import nn

    class ActorCritic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy, self.value = nn.Linear(8, 4), nn.Linear(8, 1)
            for layer in (self.policy, self.value):
                nn.init.orthogonal_(layer.weight, gain=1.0)
            nn.init.orthogonal_(self.policy.weight, gain=0.01)

    return ActorCritic()


class RepeatedInit(Rule):
    """A parameter initialised twice where once was meant.

    Two lines that write the same parameter, beside a sibling that no line writes, are a name copied and
    not changed; a loop that writes one member of a list at every turn has an index that it does not use. An
    operation on the values themselves (scaling, a logarithm) that runs again gives another result each
    time: an initialiser that does so must not be called from two places, nor by `apply` both on a module and
    on what holds it.

    Name the sibling in one of the two lines; draw or copy fresh values before transforming them in place.
    """

    code = "IL305"
    name = "repeated-init"
    severity = "warning"
    needs = frozenset({"provenance"})
    examples = (
        Example(wrong_name_pasted, finds=("value.weight", "policy.weight")),
        Example(scaled_in_constructor_and_again, finds=("0.weight", "1.weight")),
        Example(first_member_at_each_turn, finds=("heads.0.bias", "heads.2.bias")),
        Example(scaled_once_for_each_parent, finds=("0.0.out.weight", "0.1.out.weight")),
        Example(drawn_afresh_and_scaled),
        Example(each_member_at_its_turn),
        Example(drawn_and_scaled_for_each_parent),
        Example(divided_by_its_norm_in_a_loop),
        Example(general_then_particular),
    )

    def check(self, model: Evidence) -> Iterator[Finding]:
        for tensor, first, second, writes, sibling in slips(model):
            yield self.finding(
                (tensor, sibling),
                f"written by {writes[0].operation} at {at(first)} and again at {at(second)}; "
                f"{sibling.name} beside it is written by neither",
                measured={"writes": 2},
                expected={"writes": 1},
                help=f"name {sibling.name} in one of the two lines",
                site=second,
                locations=[Location(first, "the first write, without effect")],
            )
        for tensor, write, missed in stuck(model):
            turns = len(missed) + 1
            yield self.finding(
                (tensor, *missed),
                f"{said(write)} wrote {tensor.name} {turns} times, and of the {turns} members of its list "
                "no other one",
                measured={"writes": turns},
                expected={"writes": 1},
                help="use the index of the loop, so that each turn writes the member that it is for",
                site=write.site,
                locations=way(write),
            )
        for tensor, write, again, times in repetitions(model):
            yield self.finding(
                tensor,
                f"{said(write)} was applied {times} times to its own result",
                measured={"times": times},
                expected={"times": 1},
                help="draw or copy fresh values before the operation, or call the initialiser once",
                site=again.site,
                locations=(*way(again), *way(write)),
            )
