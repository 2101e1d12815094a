"""What construct tells about hidden tensors, ties, frozen parameters and second builds."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from initlint import registry
from initlint.construct.build import Construction, construct
from initlint.construct.inspect.references import mention
from initlint.construct.rebuild import rebuild
from initlint.engine.examine import examine
from initlint.evidence.build import Provenance, Rebuild, Tie, Unregistered


def built(build: Callable[[], nn.Module]) -> Construction:
    return construct(lambda: build, seed=0)


def hidden(build: Callable[[], nn.Module]) -> dict[str, Unregistered]:
    return {item.path: item for item in built(build).unregistered}


def holding(**attributes: Any) -> Any:
    model = nn.Module()
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


# ---------------------------------------------------------------- what seeds


def test_the_last_seeding_before_a_draw_and_none_of_what_came_with_the_build() -> None:
    seed = torch.manual_seed

    def build() -> Any:
        first = nn.Linear(2, 2)
        torch.manual_seed(1)
        layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
        torch.random.manual_seed(2)
        return holding(first=first, a=layers[0], b=layers[1], zeros=nn.Parameter(torch.zeros(2)))

    start = build.__code__.co_firstlineno
    seedings = {name: p.seeding for name, p in built(build).provenance.items() if name.endswith("weight")}
    lines = {name: seeding and seeding.site.line - start for name, seeding in seedings.items()}
    assert lines == {"first.weight": None, "a.weight": 2, "b.weight": 2}
    assert torch.manual_seed is torch.random.manual_seed is seed


def test_layers_that_are_seeded_alike_are_alike_because_of_that_line() -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        layers = [nn.Linear(8, 8), nn.ReLU()]
        return nn.Sequential(*layers)

    rules = [rule() for rule in registry.load().rules if rule.code == "IL104"]
    start = make.__code__.co_firstlineno
    for build, lines in ((lambda: nn.ModuleList([make(), make()]), [1]), (make, [])):
        found = examine("model", lambda build=build: build, rules).findings  # type: ignore[misc]
        assert [f.site and f.site.line - start for f in found] == lines


# ---------------------------------------------------------------- what hides


def test_containers_closures_and_objects_hide_modules() -> None:
    class Plain:
        def __init__(self) -> None:
            self.layer = nn.Linear(2, 2)

    def build() -> Any:
        layer = nn.Linear(2, 2)
        return holding(
            listed=[nn.Linear(2, 2), (nn.Linear(2, 2),)],
            named={"a": {"b": nn.Linear(2, 2)}},
            called=lambda x: layer(x),
            partial=functools.partial(nn.Linear(2, 2).forward),
            plain=Plain(),
        )

    found = hidden(build)
    assert {path: item.container for path, item in found.items()} == {
        "listed.0": "list",
        "listed.1.0": "tuple",
        "named.a.b": "dict",
        "called": "closure",
        "partial": "closure",
        "plain.layer": "object",
    }
    assert all(item.kind == "module" and item.trainable for item in found.values())


GLOBAL = nn.Linear(2, 2)


def test_classes_and_globals_hide_modules() -> None:
    class Net(nn.Module):
        shared = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Any:
            return GLOBAL(self.shared(x))

    assert {path: item.container for path, item in hidden(Net).items()} == {
        "GLOBAL": "global",
        "shared": "class",
    }


def test_what_is_registered_elsewhere_does_not_hide() -> None:
    def build() -> Any:
        model = holding(first=nn.Linear(2, 2), second=nn.Linear(2, 2))
        model.order = [model.second, model.first]
        model.run = [nn.Sequential(model.first, nn.ReLU())]
        model.view = model.first.weight[0].detach()
        return model

    assert not hidden(build)


def test_products_of_parameters_hide_them() -> None:
    def build() -> Any:
        return holding(scaled=nn.Parameter(torch.randn(3)) * 0.1, drawn=torch.randn(3), fixed=torch.ones(3))

    found = hidden(build)
    assert {path: (item.kind, item.trainable, item.random) for path, item in found.items()} == {
        "scaled": ("parameter", True, True),
        "drawn": ("buffer", False, True),
        "fixed": ("buffer", False, False),
    }


def test_a_weight_computed_from_registered_parameters_does_not_hide() -> None:
    assert not hidden(lambda: nn.utils.weight_norm(nn.Linear(4, 4)))


def test_tensors_that_forward_moves_itself() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.direct, self.looped, self.still = torch.ones(2), [torch.ones(2)], torch.ones(2)

        def forward(self, x: Tensor) -> Any:
            for table in self.looped:
                x = x + table.to(x.device)
            return x * self.direct.type_as(x) + self.still

    assert {path: item.moved for path, item in hidden(Net).items()} == {
        "direct": True,
        "looped.0": True,
        "still": False,
    }


def test_lines_of_container_assignment_and_making() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = self.make()  # assigned

        def make(self) -> list[nn.Module]:
            made = nn.Linear(2, 2)  # made
            return [made]  # container

    item = hidden(Net)["layers.0"]
    marks = {"assigned": item.assigned, "made": item.made, "container": item.site}
    with open(__file__) as file:
        lines = file.read().splitlines()
    for mark, site in marks.items():
        assert site is not None
        assert lines[site.line - 1].endswith(f"# {mark}")


def test_lines_that_assign_under_a_computed_name() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("other0", "other1"):
                self.keep(name, torch.ones(2))

        def keep(self, name: str, value: Tensor) -> None:
            setattr(self, name, value)  # other

    with open(__file__) as file:
        lines = file.read().splitlines()
    sites = {path: item.assigned for path, item in hidden(Net).items()}
    assert set(sites) == {"other0", "other1"}
    for site in sites.values():
        assert site is not None
        assert lines[site.line - 1].endswith("# other")


def test_lines_that_assign_under_a_formatted_name() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for i in range(2):
                setattr(self, f"table{i}", torch.ones(2))  # table
                setattr(self, f"mask{i}", torch.zeros(2))

    with open(__file__) as file:
        lines = file.read().splitlines()
    for i in range(2):
        site = hidden(Net)[f"table{i}"].assigned
        assert site is not None
        assert lines[site.line - 1].endswith("# table")


# ---------------------------------------------------------------- ties


def language() -> Any:
    model: Any = nn.Module()
    model.embed, model.head = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)
    return model


def tied() -> Any:
    model = language()
    model.head.weight = model.embed.weight
    return model


def broken(build: Callable[[], nn.Module]) -> list[Tie]:
    return [tie for tie in built(build).ties if tie.broken]


def new_parameter() -> Any:
    model = tied()
    model.head.weight = nn.Parameter(torch.randn(8, 4))
    return model


def new_embedding() -> Any:
    model = tied()
    model.embed = nn.Embedding(8, 4)
    return model


def copied_head() -> Any:
    model = tied()
    model.head = copy.deepcopy(model.head)
    return model


def borrowed_memory() -> Any:
    model = language()
    model.head.weight.data = model.embed.weight.data
    return model


def wrapped_again() -> Any:
    model = language()
    model.head.weight = nn.Parameter(model.embed.weight.data)
    return model


def copied_values() -> Any:
    model = language()
    with torch.no_grad():
        model.head.weight.copy_(model.embed.weight)
    return model


def transposed_memory() -> Any:
    model = language()
    model.embed, model.head = nn.Linear(8, 4), nn.Linear(4, 8)
    model.head.weight = nn.Parameter(model.embed.weight.T)
    return model


@pytest.mark.parametrize(
    "build",
    [
        new_parameter,
        new_embedding,
        copied_head,
        borrowed_memory,
        wrapped_again,
        copied_values,
        transposed_memory,
    ],
)
def test_broken_ties_are_found_with_the_line_that_broke_them(build: Callable[[], nn.Module]) -> None:
    (tie,) = broken(build)
    assert set(tie.names) == {"embed.weight", "head.weight"}
    assert tie.site is not None
    assert tie.site.function == build.__name__


def resized() -> Any:
    model = tied()
    model.head = nn.Linear(4, 3)
    return model


def momentum() -> Any:
    model: Any = nn.Module()
    model.query, model.key = nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False)
    model.key.weight.data.copy_(model.query.weight.data)
    return model


@pytest.mark.parametrize("build", [language, tied, resized, momentum])
def test_what_is_no_broken_tie(build: Callable[[], nn.Module]) -> None:
    assert not broken(build)


def test_a_tying_method_that_nothing_calls() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)

        def tie_weights(self) -> None:
            self.head.weight = self.embed.weight

    class Asked(Net):
        def __init__(self, tie: bool = False) -> None:
            super().__init__()
            if tie:
                self.tie_weights()

    assert [tie.declared_by for tie in broken(Net)] == ["tie_weights"]
    assert not broken(Asked)


# ---------------------------------------------------------------- frozen parameters


def provenance(build: Callable[[], nn.Module]) -> dict[str, Provenance]:
    return dict(built(build).provenance)


def test_lines_that_freeze() -> None:
    def build() -> Any:
        model = holding(a=nn.Linear(2, 2), b=nn.Linear(2, 2), c=nn.Linear(2, 2))
        model.a.weight.requires_grad = False
        model.b.requires_grad_(False)
        model.c.requires_grad_(False)
        model.c.requires_grad_(True)
        return model

    frozen = {name: origin.frozen for name, origin in provenance(build).items()}
    assert {name for name, site in frozen.items() if site is not None} == {"a.weight", "b.weight", "b.bias"}
    lines = {site.line for site in frozen.values() if site is not None}
    assert len(lines) == 2
    assert all(site.file == __file__ for site in frozen.values() if site is not None)


def test_parameters_are_left_as_they_were() -> None:
    before = dict(vars(nn.Parameter))
    built(lambda: nn.Linear(2, 2).requires_grad_(False))
    assert dict(vars(nn.Parameter)) == before


# ---------------------------------------------------------------- second builds


def again(build: Callable[[], nn.Module]) -> Rebuild:
    found = rebuild(built(build), seed=0)
    assert found is not None
    return found


def written(draw: Callable[[], float]) -> Callable[[], nn.Module]:
    def build() -> Any:
        model = nn.Linear(2, 2)
        nn.init.constant_(model.bias, draw())
        return model

    return build


def test_whose_generator_makes_builds_differ() -> None:
    fresh = random.SystemRandom()
    assert again(written(random.random)) == Rebuild(("bias",), "python")
    assert again(written(lambda: float(np.random.rand()))) == Rebuild(("bias",), "numpy")
    assert again(written(fresh.random)) == Rebuild(("bias",), "unseeded")
    assert again(written(lambda: float(torch.rand(())))) == Rebuild((), "none")


def test_the_line_that_seeds_torch_anew() -> None:
    def build() -> Any:
        torch.seed()
        return nn.Linear(2, 2)

    found = again(build)
    assert found.generator == "unseeded"
    assert found.reseeded is not None
    assert found.reseeded.function == "build"


def test_draws_of_a_first_import_do_not_count() -> None:
    state = {"imported": False}

    def build() -> Any:
        if not state["imported"]:
            state["imported"] = True
            torch.rand(3)
        return nn.Linear(2, 2)

    assert again(build) == Rebuild((), "none")


def test_generators_are_left_as_they_were() -> None:
    before = random.getstate(), torch.get_rng_state().tolist(), str(np.random.get_state(legacy=False))
    again(written(random.random))
    assert before == (
        random.getstate(),
        torch.get_rng_state().tolist(),
        str(np.random.get_state(legacy=False)),
    )


# ---------------------------------------------------------------- mentions


def test_where_code_speaks_of_a_parameter() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.branch = nn.Linear(2, 2), nn.Linear(2, 2)
            self.other, self.never = nn.Linear(2, 2), nn.Linear(2, 2)
            self.deep, self.unset = False, nn.Linear(2, 2)
            nn.init.zeros_(self.never.bias)

        def forward(self, x: Tensor, deep: bool = False) -> Any:
            if deep:
                x = self.branch(x)
            if self.deep:
                x = self.unset(x)
            return self.plain(x)

        def encode(self, x: Tensor) -> Any:
            return self.other(x)

    model = Net()
    names = ("plain", "unset", "branch", "other", "never")
    assert {name: mention(model, f"{name}.weight") for name in names} == {
        "plain": "forward",
        "unset": "forward",
        "branch": "elsewhere",
        "other": "elsewhere",
        "never": "nowhere",
    }
    assert mention(nn.Sequential(nn.Linear(2, 2)), "0.weight") == "elsewhere"
