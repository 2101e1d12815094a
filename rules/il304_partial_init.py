"""IL304 partial-init."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Example, Location, Rule
from initlint.analysis.locations import at, said, way
from initlint.analysis.missed_members import Gap, gaps, placeholders, starts, twins, uncalled

if TYPE_CHECKING:
    import torch
    from torch import nn

    from initlint import Evidence, Finding, Site


def suffix_compared_with_full_names() -> nn.Module:
    from torch import nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.proj = nn.Linear(8, 16), nn.Linear(16, 8)

    model = nn.Sequential(Residual(), Residual())

    def init_weights() -> None:
        for name, parameter in model.named_parameters():
            if name == "proj.weight":
                nn.init.normal_(parameter, std=0.01)

    init_weights()
    return model


def transposed_convolutions_missed() -> nn.Module:
    from torch import nn

    def init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d):
            nn.init.normal_(module.weight, std=0.01)

    return nn.Sequential(nn.ConvTranspose1d(4, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 4, 3)).apply(
        init_weights
    )


def flag_misspelled() -> nn.Module:
    from torch import nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zero_init_residual = True
            self.proj = nn.Linear(8, 8)

    def init_weights(module: nn.Module) -> None:
        if hasattr(module, "zero_init_residuals"):
            nn.init.zeros_(module.get_submodule("proj").get_parameter("weight"))

    return nn.Sequential(Residual(), Residual()).apply(init_weights)


def prefix_held_by_the_class() -> nn.Module:
    from torch import nn

    class Residual(nn.Module):
        branch_end = "branch_out"

        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.ModuleDict({"fc": nn.Linear(8, 16), "out": nn.Linear(16, 8)})
            for name, module in self.named_modules():
                if isinstance(module, nn.Linear):
                    std = 0.02
                    if name.startswith(self.branch_end):
                        std = 0.001
                    nn.init.normal_(module.weight, std=std)

    return Residual()


def scale_by_a_flag_that_no_layer_has() -> nn.Module:
    from torch import nn

    class Perceptron(nn.Module):
        flag = "zero_start"

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(8, 16), nn.Linear(16, 8)
            for module in self.children():
                std = 0.0 if hasattr(module, self.flag) else 0.02
                nn.init.normal_(module.get_parameter("weight"), std=std)

    return Perceptron()


def deeper_recurrent_layer_missed() -> nn.Module:
    from torch import nn

    model = nn.LSTM(4, 8, num_layers=2)
    nn.init.orthogonal_(model.get_parameter("weight_hh_l0"))
    return model


def first_of_several_cells() -> nn.Module:
    from torch import nn

    cells = nn.ModuleList(nn.LSTMCell(8, 8) for _ in range(3))
    nn.init.orthogonal_(cells.get_parameter("0.weight_hh"))
    return cells


def coupling_blocks(*closed: int) -> nn.Module:
    from torch import nn

    flows = nn.ModuleList(
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8, bias=False)) for _ in range(4)
    )
    for index in closed:
        nn.init.zeros_(flows.get_parameter(f"{index}.2.weight"))
    return flows


def first_of_four_blocks_closed() -> nn.Module:
    return coupling_blocks(0)


def all_blocks_closed() -> nn.Module:
    return coupling_blocks(0, 1, 2, 3)


def last_block_closed() -> nn.Module:
    return coupling_blocks(3)


def two_encodings(*written: str) -> nn.Module:
    import torch
    from torch import nn

    class Encoding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bands = nn.Parameter(torch.zeros(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x[..., None] * self.bands).sin().flatten(-2)

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place, self.view, self.color = Encoding(), Encoding(), nn.Linear(64, 3)
            with torch.no_grad():
                for name in written:
                    self.get_parameter(f"{name}.bands").copy_(2.0 ** torch.arange(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.color(torch.cat([self.place(x), self.view(x)], -1))
            return y

    return Field()


def transformers(*identities: str) -> nn.Module:
    import torch
    from torch import nn

    class Transformer(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.look, self.give = nn.Linear(size, 16), nn.Linear(16, size * size)
            self.size = size

        def begin(self) -> None:
            nn.init.zeros_(self.give.weight)
            self.give.bias.data.copy_(torch.eye(self.size).flatten())

    model = nn.Module()
    model.points, model.features = Transformer(3), Transformer(8)
    for name in identities:
        part = model.get_submodule(name)
        assert isinstance(part, Transformer)
        part.begin()
    return model


def identity_of_one_transformer() -> nn.Module:
    return transformers("points")


def identity_of_both_transformers() -> nn.Module:
    return transformers("points", "features")


def placeholder_of_one_encoding_left() -> nn.Module:
    return two_encodings("place")


def both_encodings_written() -> nn.Module:
    return two_encodings("place", "view")


def class_token_left_at_zero() -> nn.Module:
    import torch
    from torch import nn

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.class_token = nn.Parameter(torch.zeros(8))
            self.mask_token = nn.Parameter(torch.zeros(8))
            nn.init.normal_(self.mask_token, std=0.02)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x + self.mask_token, x + self.class_token])

    return Tokens()


def batch() -> torch.Tensor:
    import torch

    return torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


def layer_made_after_the_initialiser_ran() -> nn.Module:
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 8)
            self.apply(self.draw)
            self.fc3 = nn.Linear(8, 8)

        def draw(self, module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    return Net()


def weight_normalised_after_the_initialiser_ran() -> nn.Module:
    from torch import nn

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 8)
            self.apply(self.draw)
            self.last = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))

        def draw(self, module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)

    return Head()


def initialiser_never_called() -> nn.Module:
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 8)

        def _init_weights(self) -> None:
            nn.init.normal_(self.fc1.weight, std=0.02)
            nn.init.normal_(self.fc2.weight, std=0.02)

    return Net()


def helper_knows_more_layers_than_there_are() -> nn.Module:
    from torch import nn

    def init_weights(module: nn.Module) -> None:
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)

    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)).apply(init_weights)


def special_name_absent() -> nn.Module:
    from torch import nn

    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    def init_weights() -> None:
        for name, parameter in model.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.01)
            elif name.endswith("weight"):
                nn.init.normal_(parameter, std=0.02)

    init_weights()
    return model


def last_layer_zeroed() -> nn.Module:
    from torch import nn

    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8))
    nn.init.zeros_(model.get_parameter("4.weight"))
    return model


class PartialInit(Rule):
    """An initialiser that missed members it was meant for.

    A test of a name, a class or an attribute that is never true, a layer made after the initialiser ran,
    a second recurrent layer or direction: the missed members silently keep PyTorch's defaults, and the
    scheme that the code describes is not the one that the model starts from.

    A block of a list or a recurrent matrix that alone was closed, and a table that still holds the constant
    it was allocated with while its twin got values, may be meant: they are notes.

    Widen the test, run the initialiser last, or call it for the other members as well.
    """

    code = "IL304"
    name = "partial-init"
    severity = "warning"
    needs = frozenset({"provenance"})
    explained_by = {"uninitialized-memory": "same"}
    examples = (
        Example(suffix_compared_with_full_names, finds=("0.proj.weight", "1.proj.weight")),
        Example(transposed_convolutions_missed, finds=("0", "2")),
        Example(flag_misspelled, finds=("0", "1")),
        Example(prefix_held_by_the_class, finds=("branch.out",)),
        Example(deeper_recurrent_layer_missed, finds=("weight_hh_l1",)),
        Example(first_of_several_cells, finds=("1.weight_hh", "2.weight_hh")),
        Example(first_of_four_blocks_closed, finds=("1.2.weight", "2.2.weight", "3.2.weight")),
        Example(placeholder_of_one_encoding_left, finds=("view.bands",), inputs=batch),
        Example(identity_of_one_transformer, finds=("features.give.weight",)),
        Example(layer_made_after_the_initialiser_ran, finds=("fc3.weight",)),
        Example(initialiser_never_called, finds=("fc1.weight", "fc2.weight")),
        Example(weight_normalised_after_the_initialiser_ran),
        Example(helper_knows_more_layers_than_there_are),
        Example(special_name_absent),
        Example(last_layer_zeroed),
        Example(scale_by_a_flag_that_no_layer_has),
        Example(all_blocks_closed),
        Example(last_block_closed),
        Example(both_encodings_written, inputs=batch),
        Example(identity_of_both_transformers),
        Example(class_token_left_at_zero, inputs=batch),
    )

    _reasons = {
        "recurrent": "a layer or direction of the same recurrent module",
        "index": "a member of the same list",
        "later": "a layer that the same function makes afterwards",
        "closed": "a layer of another block of the same list",
    }

    def check(self, model: Evidence) -> Iterator[Finding]:
        yield from self._tests(model)
        yield from self._gaps(model)
        yield from self._placeholders(model)
        yield from self._twins(model)
        for module, drawn in uncalled(model):
            yield self.finding(
                drawn,
                f"{module.class_name} defines an initialiser that nothing called: "
                f"{len(drawn)} weights keep PyTorch's defaults",
                measured={"calls": 0},
                expected={"calls": 1},
                help="call it at the end of the constructor, or remove it",
                severity=None if module.package is None else "note",
                site=module.reset_site,
                locations=[Location(module.construction, "made here")] if module.construction else (),
            )

    def _tests(self, model: Evidence) -> Iterator[Finding]:
        for test in model.member_tests:
            if test.kind == "object" or not test.near:
                continue
            yield self.finding(
                test.near[0],
                f"`{test.text}` is {'not' if test.passed else 'never'} true for it: {test.detail}",
                measured={"passed": test.passed},
                expected={"passed": test.passed + len(test.near)},
                help="widen the test to what the model has",
                severity="note" if test.passed or not test.plain else None,
                site=test.site,
                related=test.near[1:],
            )

    def _gaps(self, model: Evidence) -> Iterator[Finding]:
        for gap in gaps(model):
            if gap.kind == "constant":
                yield self._closed(gap)
                continue
            lines = (*way(gap.write), *(Location(w.site, "another of its lines") for w in gap.others))
            yield self.finding(
                gap.missed,
                f"keeps PyTorch's default, while {said(gap.write)} wrote {gap.reached[0].name}, "
                f"{self._reasons[gap.kind]}",
                measured={"initialised": len(gap.reached)},
                expected={"initialised": len(gap.reached) + len(gap.missed)},
                severity="note" if gap.kind == "closed" else self.note_if_published(gap.missed),
                help="let the initialiser run over all of them, after the last one is made",
                site=gap.write.site,
                locations=[*lines, *_made(gap.missed[0].provenance.construction)],
            )

    def _closed(self, gap: Gap) -> Finding:
        others = ", ".join(tensor.local_name for tensor in gap.missed)
        return self.finding(
            (*gap.reached, *gap.missed),
            f"{said(gap.write)} set it to one value, while {others} of the same recurrent module keep "
            "PyTorch's default",
            measured={"initialised": len(gap.reached)},
            expected={"initialised": len(gap.reached) + len(gap.missed)},
            severity="note",
            help="set all of them, or leave all as they are drawn",
            site=gap.write.site,
            locations=way(gap.write),
        )

    def _placeholders(self, model: Evidence) -> Iterator[Finding]:
        for left, twin, write in placeholders(model):
            yield self.finding(
                (left, twin),
                f"still holds what {left.provenance.writes[0].operation} allocated, while {said(write)} "
                f"wrote its twin {twin.name}",
                measured={"initialised": 1},
                expected={"initialised": 2},
                help=f"give it values as {twin.name} gets them at {at(write.site)}",
                severity="note",
                locations=[Location(write.site, f"{twin.name} gets its values"), *way(write)],
            )

    def _twins(self, model: Evidence) -> Iterator[Finding]:
        for layer, shift, other, like, write in starts(model):
            yield self.finding(
                other,
                f"is drawn, while {layer.name}, the same layer of another module of its class, is zero and "
                f"{shift.name} holds the output to start from",
                measured={"initialised": 1},
                expected={"initialised": 2},
                help="start it the same way, or not at all",
                severity="note",
                locations=[
                    *_made(like.construction),
                    Location(write.site, f"{shift.name} gets its values"),
                    *way(write),
                ],
            )
        for pair in twins(model):
            yield self.finding(
                pair.other,
                f"keeps PyTorch's defaults, while {said(pair.write)} initialised {pair.initialised.path}, "
                f"another {pair.other.class_name} beside it",
                measured={"initialised": 1},
                expected={"initialised": 2},
                help=f"initialise {pair.other.path} like {pair.initialised.path} at {at(pair.write.site)}",
                severity="note",
                site=pair.write.site,
                locations=way(pair.write),
            )


def _made(site: Site | None) -> Iterator[Location]:
    if site is not None:
        yield Location(site, "the missed one is made here")
