"""Inputs that nobody gave: what is inferred for models of many kinds, and what that leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from initlint import engine, registry
from initlint.inputs.search import SearchResult, search_inputs
from initlint.inputs.sources import NotFound, find, from_shape
from initlint.runtime.call import Inputs

# ---------------------------------------------------------------- images


def digits() -> nn.Module:
    layers = (nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(8 * 7 * 7, 10))


def lenet() -> nn.Module:
    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
            self.head = nn.Linear(400, 10)

        def forward(self, x: Tensor) -> Any:
            x = F.max_pool2d(self.first(x).relu(), 2)
            return self.head(F.max_pool2d(self.second(x).relu(), 2).view(-1, 400))

    return LeNet()


def atari() -> nn.Module:
    layers = (nn.Conv2d(4, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 16, 4, 2), nn.ReLU(), nn.Conv2d(16, 16, 3))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 7 * 7, 6))


def siamese() -> nn.Module:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            tower = (nn.Conv2d(1, 4, 10), nn.MaxPool2d(2), nn.Flatten())
            self.tower = nn.Sequential(*tower, nn.Linear(4 * 48 * 48, 8))

        def forward(self, a: Tensor, b: Tensor) -> Any:
            return (self.tower(a) - self.tower(b)).abs().sum(1)

    return Siamese()


def patches() -> nn.Module:
    class Vision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(3 * 16, 16)
            self.position = nn.Parameter(torch.randn(1, 64, 16))

        def forward(self, img: Tensor) -> Any:
            b, c, _, _ = img.shape
            cut = img.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5)
            return self.project(cut.reshape(b, -1, c * 16)) + self.position

    return Vision()


def frames() -> nn.Module:
    class Clip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.time = nn.Conv2d(3, 8, 3, 2), nn.LSTM(8, 16, batch_first=True)

        def forward(self, x: Tensor) -> Any:
            b, t, c, h, w = x.shape
            return self.time(self.image(x.view(b * t, c, h, w)).mean((2, 3)).view(b, t, -1))[0]

    return Clip()


def generator() -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(16, 8, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3))


def volume() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv3d(2, 2, 1))


# ---------------------------------------------------------------- sequences


def tokens() -> nn.Module:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(100, 16), nn.Linear(16, 100)
            self.position = nn.Parameter(torch.randn(12, 16))

        def forward(self, idx: Tensor, targets: Tensor | None = None) -> Any:
            assert idx.shape[1] <= 12
            return self.head(self.embed(idx) + self.position[: idx.shape[1]])

    return Language()


def translation() -> nn.Module:
    class Translation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source, self.target = nn.Embedding(50, 16), nn.Embedding(60, 16)
            self.core = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)

        def forward(self, src: Tensor, tgt: Tensor, tgt_mask: Tensor, src_padding_mask: Tensor) -> Any:
            return self.core(
                self.source(src),
                self.target(tgt),
                tgt_mask=tgt_mask,
                src_key_padding_mask=src_padding_mask,
            )

    return Translation()


def sequence_first() -> nn.Module:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(16, 2, 32)
            self.embed = nn.Embedding(33, 16)

        def forward(self, src: Tensor, src_mask: Tensor) -> Any:
            return self.layer(self.embed(src), src_mask)

    return Encoder()


def recurrent() -> nn.Module:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core, self.head = nn.LSTM(10, 20, batch_first=True), nn.Linear(20, 5)

        def forward(self, x: Tensor) -> Any:
            return self.head(self.core(x)[0][:, -1])

    return Recurrent()


def packed() -> nn.Module:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.core = nn.Embedding(40, 10), nn.LSTM(10, 20, batch_first=True)

        def forward(self, text: Tensor, lengths: Tensor) -> Any:
            sequence = nn.utils.rnn.pack_padded_sequence(
                self.embed(text), lengths, batch_first=True, enforce_sorted=False
            )
            return self.core(sequence)[1][0][-1]

    return Packed()


def one_step() -> nn.Module:
    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.core, self.head = nn.Embedding(40, 16), nn.GRU(16, 16), nn.Linear(16, 40)

        def forward(self, input: Tensor, hidden: Tensor) -> Any:
            output, hidden = self.core(self.embed(input).view(1, 1, -1), hidden)
            return self.head(output[0]), hidden

    return Step()


def sound() -> nn.Module:
    return nn.Sequential(nn.Conv1d(1, 8, 80, 16), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 2, 3))


def cross_attention() -> nn.Module:
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(16, 16)
            self.attend = nn.MultiheadAttention(16, 2, kdim=24, vdim=24, batch_first=True)

        def forward(self, x: Tensor, context: Tensor) -> Any:
            return self.attend(self.query(x), context, context)[0]

    return Cross()


# ---------------------------------------------------------------- several arguments


def diffusion() -> nn.Module:
    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time, self.label = nn.Linear(16, 8), nn.Embedding(10, 8)
            self.enter, self.leave = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

        def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Any:
            angle = t[:, None].float() * torch.exp(-torch.arange(8) / 8.0)
            e = self.time(torch.cat([angle.sin(), angle.cos()], -1)) + self.label(y)
            return self.leave(F.silu(self.enter(x) + e[:, :, None, None]))

    return Denoiser()


def two_widths() -> nn.Module:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(5, 8), nn.Linear(9, 8), nn.Linear(16, 1)

        def forward(self, left: Tensor, right: Tensor) -> Any:
            return self.head(torch.cat([self.a(left), self.b(right)], 1))

    return Two()


def keyword_only() -> nn.Module:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Embedding(9, 8)

        def forward(self, *, features: Tensor, category: Tensor) -> Any:
            return self.a(features) + self.b(category)

    return Keywords()


def dictionary() -> nn.Module:
    class FromDictionary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(12, 8), nn.Embedding(30, 8)

        def forward(self, batch: dict[str, Tensor]) -> Any:
            return torch.cat([self.a(batch["dense"]), self.b(batch["category"])], -1)

    return FromDictionary()


def graph() -> nn.Module:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(7, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor, edge_index: Tensor) -> Any:
            x = self.layer(x)
            return self.head(torch.zeros_like(x).index_add(0, edge_index[1], x[edge_index[0]]))

    return Graph()


def graph_object() -> nn.Module:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(7, 16)

        def forward(self, data: Any) -> Any:
            x = self.layer(data.x)
            x = torch.zeros_like(x).index_add(0, data.edge_index[1], x[data.edge_index[0]])
            return torch.zeros(int(data.batch.max()) + 1, 16).index_add(0, data.batch, x)

    return Pooled()


def table() -> nn.Module:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.ModuleList(nn.Embedding(size, 4) for size in (10, 20, 30))
            self.head = nn.Linear(12 + 5, 1)

        def forward(self, x_cat: Tensor, x_cont: Tensor) -> Any:
            columns = [embed(x_cat[:, i]) for i, embed in enumerate(self.embed)]
            return self.head(torch.cat([*columns, x_cont], 1))

    return Table()


def rays() -> nn.Module:
    class Rays(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.point, self.view = nn.Linear(63, 16), nn.Linear(16 + 27, 3)

        def forward(self, x: Tensor) -> Any:
            point, view = torch.split(x, [63, 27], -1)
            return self.view(torch.cat([self.point(point).relu(), view], -1))

    return Rays()


def slices() -> nn.Module:
    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(5))

        def forward(self, x: Tensor) -> Any:
            return x[:, :5] * self.scale

    return Sliced()


def any_number() -> nn.Module:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(4, 6)

        def forward(self, *parts: Tensor) -> Any:
            return self.a(parts[0]) + self.b(parts[1])

    return Many()


def loss_inside() -> nn.Module:
    class WithLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor, labels: Tensor) -> Any:
            return F.cross_entropy(self.head(x), labels)

    return WithLoss()


def detector() -> nn.Module:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 5)

        def forward(self, images: Any, targets: Any = None) -> Any:
            if targets is None:
                raise ValueError("targets should not be None in training")
            boxes = torch.stack([target["boxes"] for target in targets])
            labels = torch.stack([target["labels"] for target in targets])
            out = self.head(self.body(torch.stack(list(images))).mean((2, 3)))
            return out[:, None] + boxes.new_zeros((*boxes.shape[:2], 5)) * labels[..., None]

    return Detector()


def records() -> nn.Module:
    class Segmenter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, batch: list[dict[str, Any]]) -> Any:
            maps = self.body(torch.stack([record["image"] for record in batch]))
            return [F.interpolate(m[None], r["original_size"]) for m, r in zip(maps, batch, strict=True)]

    return Segmenter()


def relations() -> nn.Module:
    class Relations(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 7, 4))

        def forward(self, x: Tensor, edge_index: Tensor, edge_type: Tensor | None = None) -> Any:
            assert edge_type is not None
            return torch.bmm(x[edge_index[0]].unsqueeze(1), self.weight[edge_type])

    return Relations()


def dimensions() -> nn.Module:
    class Speech(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dims = SimpleNamespace(n_mels=20, n_audio_ctx=15)
            self.first, self.second = nn.Conv1d(20, 8, 3, padding=1), nn.Conv1d(8, 8, 3, 2, padding=1)
            self.position = nn.Parameter(torch.randn(8, 15))

        def forward(self, mel: Tensor) -> Any:
            x = self.second(self.first(mel).relu())
            assert x.shape[1:] == self.position.shape, "incorrect audio shape"
            return x + self.position

    return Speech()


def popped() -> nn.Module:
    class Popped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, batch: Any) -> Any:
            return self.head(batch.pop("x"))

    return Popped()


def keywords() -> nn.Module:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, **batch: Any) -> Any:
            x = batch.get("x")
            if x is None:
                raise ValueError("nothing to do")
            return self.head(x) * batch.get("scale", 1.0)

    return Keywords()


SQUARE, IDS = "float32[2, 3, 32, 32]", "int64[2, 16]"
BOXES = "{boxes: float32[3, 4], labels: int64[3]}"
RECORD = "{image: float32[3, 32, 32], original_size: (32, 32)}"


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (digits, "float32[2, 1, 28, 28]"),
        (lenet, SQUARE),
        (atari, "float32[2, 4, 84, 84]"),
        (siamese, "float32[2, 1, 106, 106], float32[2, 1, 106, 106]"),
        (patches, SQUARE),
        (frames, "float32[2, 4, 3, 32, 32]"),
        (generator, "float32[2, 16, 1, 1]"),
        (volume, "float32[2, 1, 16, 64, 64]"),
        (tokens, "int64[2, 12]"),
        (translation, f"{IDS}, {IDS}, bool[16, 16], bool[2, 16]"),
        (sequence_first, "int64[16, 2], bool[16, 16]"),
        (recurrent, "float32[2, 16, 10]"),
        (packed, f"{IDS}, int64[2]"),
        (one_step, "int64[1, 1], float32[1, 1, 16]"),
        (sound, "float32[2, 1, 16000]"),
        (cross_attention, "float32[2, 16, 16], float32[2, 24, 24]"),
        (diffusion, f"{SQUARE}, int64[2], int64[2]"),
        (two_widths, "float32[2, 5], float32[2, 9]"),
        (keyword_only, "features=float32[2, 5], category=int64[2]"),
        (dictionary, "{dense: float32[2, 12], category: int64[2]}"),
        (graph, "float32[12, 7], int64[2, 30]"),
        (graph_object, "(x: float32[12, 7], edge_index: int64[2, 30], batch: int64[12])"),
        (table, "int64[2, 3], float32[2, 5]"),
        (rays, "float32[2, 90]"),
        (slices, "float32[2, 5]"),
        (any_number, "float32[2, 6], float32[2, 4]"),
        (loss_inside, "float32[2, 6], int64[2]"),
        (detector, f"{SQUARE}, targets=[{BOXES}, {BOXES}]"),
        (records, f"[{RECORD}, {RECORD}]"),
        (relations, "float32[12, 7], int64[2, 30], edge_type=int64[30]"),
        (popped, "{x: float32[2, 6]}"),
        (keywords, "x=float32[2, 6]"),
        (dimensions, "float32[2, 20, 30]"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_inferred(build: Callable[[], nn.Module], text: str) -> None:
    torch.manual_seed(0)
    model = build()
    found = find(model)
    assert isinstance(found, Inputs), found
    assert (found.source, found.text) == ("inferred", f"{text}, inferred")
    model.train()(*found.args, **found.kwargs)


def test_the_model_stays_as_it_was() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(3600, 2)
    )
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    assert isinstance(find(model), Inputs)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert not model.training
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


class Picky(nn.Module):
    """Takes nothing at all."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Linear(8, 4)
        self.seconds = seconds

    def forward(self, x: Tensor) -> Any:
        time.sleep(self.seconds)
        self.body(x)
        raise RuntimeError(f"seventeen at most, not {int(time.monotonic() * 1e6)} or so")


def test_nothing_fits() -> None:
    found = find(Picky())
    assert isinstance(found, NotFound)
    assert "no inputs could be inferred" in found.reason
    assert "x float[2, 8]" in found.reason
    assert "RuntimeError: seventeen at most" in found.reason
    assert "--inputs module:attr, --input-shape, or example_inputs" in found.reason


def test_the_budget_is_kept() -> None:
    start = time.monotonic()
    assert not isinstance(search_inputs(Picky(0.1), budget=0.5), SearchResult)
    assert time.monotonic() - start < 1.5


def test_hints_come_first() -> None:
    class Hinted(nn.Sequential):
        example_input_array = torch.zeros(1, 3, 8)

    found = find(Hinted(nn.Linear(8, 2)))
    assert isinstance(found, Inputs)
    assert (found.source, found.text) == ("hint", "float32[2, 3, 8], from the model's example_input_array")


def test_a_hint_that_does_not_run_is_told_of() -> None:
    class Misled(Picky):
        example_input_array = torch.zeros(1, 3)

    found = find(Misled())
    assert isinstance(found, NotFound)
    assert "not run either: its example_input_array (RuntimeError: mat1 and mat2" in found.reason


@pytest.mark.parametrize(
    ("build", "shape", "text"),
    [
        (lambda: nn.Linear(8, 2), "3,5,8", "float32[3, 5, 8], given"),
        (tokens, "3,7", "int64[3, 7], given"),
        (diffusion, "2,3,16,24", "float32[2, 3, 16, 24], int64[2], int64[2], given"),
    ],
)
def test_a_shape_is_kept(build: Callable[[], nn.Module], shape: str, text: str) -> None:
    assert from_shape(shape, build()).text == text


def asserted_rank() -> nn.Module:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Any:
            assert x.dim() == 3
            return self.body(x)

    return Sequence()


def test_a_rank_that_no_operator_asks_for() -> None:
    found = find(asserted_rank())
    assert isinstance(found, Inputs), found
    assert found.text == "float32[2, 16, 8], inferred"


class Product(nn.Module):
    """A first weight that is the first thing drawn; the class keeps what went in."""

    seen: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 16))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x.detach().flatten(), self.weight.detach().flatten()))
        return x @ self.weight


def test_inputs_do_not_repeat_the_values_of_the_first_weight() -> None:
    settings = engine.Settings(input_shape="16,64")
    rules = [registry.load().find("vanishing-signal")()]
    report = engine.examine("model", lambda: Product, rules, settings=settings)
    assert report.error is None
    pairs = [pair for pair in Product.seen if pair[0].device.type == "cpu" and pair[0].any()]
    assert pairs
    assert all(torch.corrcoef(torch.stack(pair))[0, 1].abs() < 0.2 for pair in pairs)
