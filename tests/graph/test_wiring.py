"""What leads to a tensor and what becomes of it, read from the probe's graph."""

from __future__ import annotations

from typing import Any

import torch
from called import Model
from torch import nn
from torch.nn import functional

from initlint.evidence.use import Step, Wiring
from initlint.graph.recorder import GraphRecorder, Trace
from initlint.graph.usage import Usage, usage


def read(model: nn.Module) -> Usage:
    x = torch.randn(4, 8)
    with GraphRecorder(model) as recorder:
        recorder.begin((x,), {})
        recorder.finish(model(x))
    return usage(Trace(recorder.graph, "recorded"), model)


def wiring(model: nn.Module, name: str) -> Wiring:
    return read(model).uses[name].wiring


def scalar() -> nn.Parameter:
    return nn.Parameter(torch.ones(()))


def test_sources_are_the_last_weights_before() -> None:
    model = Model(
        lambda m, x: m.c(m.a(x).relu() + m.b(x)), a=nn.Linear(8, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 2)
    )
    assert wiring(model, "a.weight").sources == ()
    assert wiring(model, "c.weight").sources == ("a.weight", "b.weight")


def test_summands_are_the_weights_behind_each_operand() -> None:
    found = read(Model(lambda m, x: m.a(x) + m.b(x).relu(), a=nn.Linear(8, 8), b=nn.Linear(8, 8)))
    assert [f.summands for f in found.nodes.values() if f.summands] == [(("a.weight",), ("b.weight",))]


def test_a_normalisation_has_one_gain() -> None:
    model = Model(lambda m, x: m.norm(x) * m.scale, norm=nn.LayerNorm(8), scale=nn.Parameter(torch.ones(8)))
    roles = {name: use.role for name, use in read(model).uses.items()}
    assert roles == {"norm.weight": "gain", "norm.bias": "shift", "scale": "scalar"}
    model.norm = nn.LayerNorm(8, elementwise_affine=False)
    assert read(model).uses["scale"].role == "gain"


def test_what_a_kernel_made_from_data_is_applied_to_is_a_table() -> None:
    def modulated(m: Any, x: torch.Tensor) -> torch.Tensor:
        kernel = m.kernel * m.style(x).view(4, 1, 8, 1, 1)
        return functional.conv2d(m.start.repeat(1, 4, 1, 1), kernel.view(-1, 8, 3, 3), groups=4)

    kernel, start = nn.Parameter(torch.randn(6, 8, 3, 3)), nn.Parameter(torch.randn(1, 8, 4, 4))
    model = Model(modulated, kernel=kernel, start=start, style=nn.Linear(8, 8))
    assert read(model).uses["start"].role == "table"


def test_steps_are_the_functions_of_the_stored_value() -> None:
    assert wiring(Model(lambda m, x: x * m.s.exp(), s=scalar()), "s").steps == (Step("exp"),)
    assert wiring(Model(lambda m, x: x / m.s, s=scalar()), "s").steps == (Step("reciprocal"),)
    assert wiring(Model(lambda m, x: x * -(m.s * 2).exp(), s=scalar()), "s").steps == (
        Step("mul", 2.0),
        Step("exp"),
        Step("neg"),
    )


def test_factor_is_the_constant_in_front_of_the_activation() -> None:
    layer = nn.Linear(8, 4)
    assert wiring(Model(lambda m, x: torch.sin(30 * m.layer(x)), layer=layer), "layer.weight").factor == 30
    assert wiring(Model(lambda m, x: torch.sin(m.layer(x)), layer=layer), "layer.weight").factor == 1
    assert (
        wiring(Model(lambda m, x: torch.sin(m.layer(x).cumsum(0)), layer=layer), "layer.weight").factor
        is None
    )


def gated(m: Any, x: torch.Tensor) -> torch.Tensor:
    h, c = m.stem(x), m.condition(x)
    shift, gate = m.modulation(c).chunk(2, -1)
    result: torch.Tensor = h + gate * m.branch(h + shift)
    return result


def test_gates_are_the_parts_that_scale_a_branch_from_outside() -> None:
    model = Model(
        gated,
        stem=nn.Linear(8, 8),
        condition=nn.Linear(8, 8),
        modulation=nn.Linear(8, 16),
        branch=nn.Linear(8, 8),
    )
    assert wiring(model, "modulation.weight").gates == (1,)
    assert wiring(model, "branch.weight").gates == ()


def test_a_gate_that_depends_on_the_stream_is_none() -> None:
    model = Model(lambda m, x: x + m.gate(x) * m.branch(x), gate=nn.Linear(8, 8), branch=nn.Linear(8, 8))
    assert wiring(model, "gate.weight").gates == ()


def test_scales_of_cosines() -> None:
    def cosines(m: Any, x: torch.Tensor) -> torch.Tensor:
        a, b = functional.normalize(m.a(x), dim=-1), functional.normalize(m.b(x), dim=-1)
        result: torch.Tensor = m.s.exp() * a @ b.T
        return result

    layers = {"a": nn.Linear(8, 4), "b": nn.Linear(8, 4)}
    assert wiring(Model(cosines, s=scalar(), **layers), "s").cosine
    assert not wiring(Model(lambda m, x: m.s * m.a(x) @ m.b(x).T, s=scalar(), **layers), "s").cosine


def test_scales_of_cosines_with_stored_prototypes() -> None:
    def classify(m: Any, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = functional.normalize(x, dim=-1) @ functional.normalize(m.w, dim=-1).T / m.s
        return result

    assert wiring(Model(classify, w=nn.Parameter(torch.randn(5, 8)), s=scalar()), "s").cosine


def test_rows_divided_by_their_norms() -> None:
    def classify(m: Any, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = functional.linear(x, functional.normalize(m.w)) @ m.plain / m.plain.norm()
        return result

    model = Model(classify, w=nn.Parameter(torch.randn(5, 8)), plain=nn.Parameter(torch.randn(5, 3)))
    assert wiring(model, "w").unit
    assert not wiring(model, "plain").unit


def attended(m: Any, x: torch.Tensor) -> torch.Tensor:
    heads = m.fused(x).view(4, 1, 2, 12).transpose(1, 2)
    q, k, v = heads.chunk(3, dim=-1)
    mixed: torch.Tensor = functional.scaled_dot_product_attention(q, k, v)
    return mixed


def halved(m: Any, x: torch.Tensor) -> torch.Tensor:
    first, second = m.fused(x).view(4, 1, 2, 12).chunk(2, dim=-1)
    rotated: torch.Tensor = first * second.sin()
    return rotated


def test_projections_are_woven_where_every_head_is_split_into_three() -> None:
    assert read(Model(attended, fused=nn.Linear(8, 24))).uses["fused.weight"].woven == 3
    assert read(Model(halved, fused=nn.Linear(8, 24))).uses["fused.weight"].woven == 1


def test_a_sum_weighed_by_a_softmax_is_no_part_of_the_fan() -> None:
    def mixed(m: Any, x: torch.Tensor) -> torch.Tensor:
        h = torch.einsum("nd,edh->neh", x, m.up)
        return torch.einsum("ne,neh,ehd->nd", m.weigh(m.router(x)), h, m.down)

    held = {"up": nn.Parameter(torch.ones(3, 8, 5)), "down": nn.Parameter(torch.ones(3, 5, 2))}
    averaged = read(Model(mixed, router=nn.Linear(8, 3), weigh=nn.Softmax(-1), **held)).uses["down"]
    assert (averaged.fan_in, averaged.stacked) == (5, (0,))
    summed = read(Model(mixed, router=nn.Linear(8, 3), weigh=nn.Identity(), **held)).uses["down"]
    assert (summed.fan_in, summed.stacked) == (15, ())
