"""The first guess at a model's arguments: from its signature, its configuration, and its first layer."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from initlint.inputs.call_spec import (
    BATCH,
    EDGES,
    LENGTH,
    NODES,
    WIDTH,
    Call,
    Constant,
    Group,
    Spec,
    TensorSpec,
)
from initlint.runtime import attribute, layer

WAVE = 16_000  # samples: one second of speech
SPECTRA = 400  # frames of a spectrogram
IMAGE_SIZES = (224, 32, 28, 64, 84, 96, 128, 256, 299, 384, 512, 16, 48, 8)
CONFIGURATIONS = ("config", "cfg", "hparams", "args", "params", "dims", "options", "opt", "hp", "hps")
SECTIONS = {
    "text": ("text_config", "text_encoder", "decoder", "encoder", "thinker_config"),
    "vision": ("vision_config", "backbone_config", "encoder", "image_config"),
    "audio": ("audio_config", "audio_encoder", "audio_encoder_config", "encoder"),
}


# ---------------------------------------------------------------- what a model says about itself


def setting(model: nn.Module, *names: str, section: str = "") -> Any:
    """The first of `names` that the model's configuration or the model itself has, None if none has."""
    for holder in _holders(model, section):
        for name in names:
            value = holder.get(name) if isinstance(holder, Mapping) else attribute(holder, name)
            if value is not None and not callable(value):
                return value
    return None


def _holders(model: nn.Module, section: str) -> Iterator[Any]:
    configs = [attribute(model, name) for name in CONFIGURATIONS]
    configs = [c for c in configs if c is not None and not callable(c)]
    for config in configs:
        for part in SECTIONS.get(section, ()):
            inner = config.get(part) if isinstance(config, Mapping) else attribute(config, part)
            if inner is not None:
                yield inner
    yield from configs
    yield model


def number(model: nn.Module, *names: str, section: str = "", default: int) -> int:
    """A positive whole number that the model says about itself; the first one of several."""
    value = setting(model, *names, section=section)
    if isinstance(value, (list, tuple)) and value:
        value = value[0]
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def vocabulary(model: nn.Module) -> int:
    """Number of tokens: of the configuration, else of the first embedding."""
    first = next((m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)), 2)
    return number(model, "vocab_size", "n_vocab", "vocabulary_size", section="text", default=first)


def length(model: nn.Module) -> int:
    """Positions of a sequence: few, but no more than the model has."""
    most = number(
        model,
        *("max_position_embeddings", "n_positions", "block_size", "max_seq_len", "context_length", "seq_len"),
        section="text",
        default=LENGTH,
    )
    return min(LENGTH, most)


def image_size(model: nn.Module) -> tuple[int, int]:
    """Height and width: as configured, else by how often the model halves them."""
    size = setting(model, "image_size", "img_size", "input_resolution", "resolution", section="vision")
    if isinstance(size, (list, tuple)) and len(size) >= 2 and all(isinstance(s, int) for s in size):
        return size[-2], size[-1]
    if isinstance(size, int) and size > 0:
        return size, size
    stride = 1
    for module in model.modules():
        if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d, nn.Conv2d)):
            kernel, step = _first_size(module.kernel_size), _first_size(module.stride)
            stride *= step if kernel > 1 else 1  # a kernel of one is a shortcut beside another layer
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    patches = first is not None and _first_size(first.kernel_size) == _first_size(first.stride) >= 4
    side = 224 if stride >= 32 or patches else 64 if stride >= 16 else 32
    return side, side


def _first_size(value: Any) -> int:
    return int(value[0]) if isinstance(value, (list, tuple)) else int(value or 1)


def channels(model: nn.Module) -> int:
    """Channels of an image: as configured, else of the first convolution."""
    first = next((m.in_channels or 3 for m in model.modules() if isinstance(m, nn.Conv2d)), 3)  # lazy: 0
    return number(
        model, "num_channels", "in_channels", "in_chans", "channels", section="vision", default=first
    )


# ---------------------------------------------------------------- layers


def first_layer(model: nn.Module) -> nn.Module | None:
    """The first registered layer that says what it takes."""
    return next((m for m in model.modules() if layer(m).width or _is_linear(m)), None)


def _is_linear(module: nn.Module) -> bool:
    """A stand-in for a linear layer: quantised, low-rank."""
    return isinstance(attribute(module, "in_features"), int) and attribute(module, "kernel_size") is None


def layer_input(module: nn.Module | None, model: nn.Module) -> TensorSpec:
    """What a layer takes; without one, what the first weight of an exported model takes."""
    if module is None and isinstance(model, (torch.jit.ScriptModule, torch.fx.GraphModule)):
        weight = next((p for p in model.parameters() if p.dim() > 1), torch.empty(0, WIDTH))
        return TensorSpec((BATCH, weight.shape[1], *(image_size(model) if weight.dim() == 4 else ())))
    known = layer(module)
    spatial = known.role == "kernel" or known.rank > 3
    width = attribute(module, known.width or "in_features")
    sizes = tuple(width) if isinstance(width, tuple) else (width or (3 if spatial else WIDTH),)  # lazy: 0
    if known.role == "lookup":
        return TensorSpec((BATCH, length(model)), "int", high=sizes[0])
    if known.operator == "convolution_transpose":
        return TensorSpec((BATCH, *sizes, *[1] * (known.rank - 2)))
    if spatial:
        extents = {3: (WAVE if sizes == (1,) else 128,), 4: image_size(model), 5: (16, 64, 64)}
        return TensorSpec((BATCH, *sizes, *extents.get(known.rank, ())), settled=frozenset({1}))
    if known.rank == 3:
        lead = (BATCH, LENGTH) if attribute(module, "batch_first") else (LENGTH, BATCH)
        return TensorSpec((*lead, *sizes))
    return TensorSpec((BATCH, *sizes))


# ---------------------------------------------------------------- names


def _ids(model: nn.Module) -> Spec:
    return TensorSpec((BATCH, length(model)), "int", high=vocabulary(model))


def _image(model: nn.Module) -> Spec:
    return TensorSpec((BATCH, channels(model), *image_size(model)))


def _video(model: nn.Module) -> Spec:
    frames = number(model, "num_frames", "frames", section="vision", default=8)
    return TensorSpec((BATCH, frames, channels(model), *image_size(model)))


def _features(model: nn.Module) -> Spec:
    """Spectrograms: (batch, bins, frames) where the number of frames is fixed, else (batch, frames, bins)."""
    names = (
        "num_mel_bins",
        "input_feat_per_channel",
        "feature_projection_input_dim",
        "n_mels",
        "feature_size",
    )
    bins = number(model, *names, "input_dim", section="audio", default=80)
    positions = setting(model, "max_source_positions", "n_audio_ctx", section="audio")
    if isinstance(positions, int) and setting(model, "input_feat_per_channel", section="audio") is None:
        return TensorSpec((BATCH, bins, 2 * positions))
    return TensorSpec((BATCH, number(model, "max_length", section="audio", default=SPECTRA), bins))


def _wave(model: nn.Module) -> Spec:
    if setting(model, "num_mel_bins", section="audio") is not None:
        return _features(model)
    count = setting(model, "audio_channels", section="audio")
    return TensorSpec((BATCH, count, WAVE) if isinstance(count, int) else (BATCH, WAVE))


def _labels(model: nn.Module) -> Spec:
    heads = [m.out_features for m in model.modules() if isinstance(m, nn.Linear)]
    return TensorSpec(
        (BATCH,), "int", high=number(model, "num_labels", "num_classes", default=heads[-1] if heads else 2)
    )


def _hidden(model: nn.Module) -> Spec:
    """The state of the first recurrent layer; features for a model that has none."""
    module = next((m for m in model.modules() if isinstance(m, (nn.RNNBase, nn.RNNCellBase))), None)
    if module is None:
        first = first_layer(model)
        return layer_input(None if isinstance(first, nn.Embedding) else first, model)
    if isinstance(module, nn.RNNCellBase):
        state = TensorSpec((BATCH, module.hidden_size))
    else:
        directions = module.num_layers * (2 if module.bidirectional else 1)
        state = TensorSpec((directions, BATCH, module.proj_size or module.hidden_size))
    if not layer(module).operator.startswith("lstm"):
        return state
    cells = replace(state, shape=(*state.shape[:-1], module.hidden_size))
    return Group("tuple", (("0", state), ("1", cells)))


def _fixed(*shape: int, **how: Any) -> Callable[[nn.Module], Spec]:
    return lambda model: TensorSpec(shape, **how)


def _history(model: nn.Module) -> int:
    """Time steps of the past: the context and the longest lag behind it."""
    lags = setting(model, "lags_sequence") or [0]
    return int(number(model, "context_length", "prediction_length", default=LENGTH) + max(lags))


def _series(step: str, *features: str) -> Callable[[nn.Module], Spec]:
    def make(model: nn.Module) -> Spec:
        steps = _history(model) if step == "past" else number(model, "prediction_length", default=LENGTH)
        widths = [w for w in (setting(model, name) for name in features) if isinstance(w, int)]
        wide = bool(widths) and (widths[0] > 1 or "num" in features[0])
        return TensorSpec((BATCH, steps, widths[0]) if wide else (BATCH, steps))

    return make


#: What a name says, first match first. Names that say nothing about a shape (x, src) are left to the layers.
NAMES: tuple[tuple[str, Callable[[nn.Module], Spec]], ...] = (
    (r"past_values", _series("past", "input_size", "num_input_channels")),
    (r"future_values", _series("future", "input_size", "num_input_channels")),
    (r"past_time_features", _series("past", "num_time_features")),
    (r"future_time_features", _series("future", "num_time_features")),
    (r"past_observed_mask", lambda m: _ones(_series("past", "input_size", "num_input_channels")(m))),
    (r"static_categorical_features", _fixed(BATCH, 1, kind="int", high=1)),
    (r"static_real_features", _fixed(BATCH, 1)),
    (r"bbox|boxes", _fixed(BATCH, LENGTH, 4, kind="int", fill="boxes")),
    (r"(decoder_)?(input_)?(ids|tokens?|token_ids)|\w+_input_ids|texts?|sentences?|captions?|words?", _ids),
    (r"(pixel_)?values_videos|videos?|clips?", _video),
    (r"pixel_values|(input_)?(images?|imgs?|pixels)", _image),
    (r"input_features|mels?|mel_spec\w*|spectrogram|spec|fbank", _features),
    (r"input_values|wave(form)?s?|audios?|wavs?|raw_audio", _wave),
    (r"(original|orig|image|img)_size", lambda m: Constant(image_size(m))),
    (r"\w*key_padding_mask", _fixed(BATCH, LENGTH, kind="bool", fill="zeros")),
    (r"attn_mask|(src|tgt|causal)_mask", _fixed(LENGTH, LENGTH, kind="bool", fill="causal")),
    (r"attention_mask|\w*mask", _fixed(BATCH, LENGTH, kind="bool", fill="ones")),
    (r"\w*lengths?|lens?|\w+_lens?", _fixed(BATCH, kind="int", fill="full", high=LENGTH)),
    (
        r"t|ts|time_?steps?|time_?ids|timestep_ids|diffusion_steps?|noise_levels?|sigmas?",
        _fixed(BATCH, kind="int", high=1000),
    ),
    (r"y|labels?|class_?(labels?|ids?)|cls", _labels),
    (r"edge_index|edges|edge_list", _fixed(2, EDGES, kind="int", high=NODES)),
    (r"edge_types?|rel|relations?", _fixed(EDGES, kind="int")),
    (r"edge_weights?", _fixed(EDGES, fill="unit")),
    (r"edge_(attrs?|features?|feats?)", _fixed(EDGES, WIDTH)),
    (r"adj(acency)?(_matrix|_t)?", _fixed(NODES, NODES, fill="adjacency")),
    (r"points?|pts|xyz|pcd?|point_cloud|pos(itions)?|coords?", _fixed(BATCH, 128, 3)),
    (r"(user|item|movie|product)s?(_ids?)?|\w+_id", _fixed(BATCH, kind="int", high=1 << 30)),
    (r"actions?", _fixed(BATCH, WIDTH)),
    (r"h|h_?0|hx|(\w+_)?hidden(_state)?|(init(ial)?|prev(ious)?|rnn|lstm|gru)_states?", _hidden),
)


def _ones(spec: Spec) -> Spec:
    return TensorSpec(spec.shape, "float", "ones") if isinstance(spec, TensorSpec) else spec


def spec_by_name(name: str, model: nn.Module) -> Spec | None:
    """What an argument of this name usually is, None when the name does not say."""
    return next((make(model) for pattern, make in NAMES if re.fullmatch(pattern, name.lower())), None)


def is_of_graph(name: str) -> bool:
    """Whether an argument of this name makes the others those of a graph's nodes."""
    return re.match(r"edge|adj", name.lower()) is not None


# ---------------------------------------------------------------- a call


def first_guess(model: nn.Module, parameters: Mapping[str, inspect.Parameter]) -> Call:
    """A call with the arguments that are needed, described as well as names, types and layers allow."""
    wanted = [n for n, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    main = attribute(model, "main_input_name")
    if isinstance(main, str) and main in parameters:
        wanted = [n for n in parameters if n in {*wanted, main, *_companions(model, main)}]
        wanted = [n for n in wanted if parameters[n].kind is not parameters[n].VAR_POSITIONAL]
    elif not wanted and parameters:
        wanted = [next(iter(parameters))]
    hints = _annotations(model)
    graph = any(map(is_of_graph, wanted))
    return Call(tuple((n, guess(n, parameters[n], hints.get(n), model, graph=graph)) for n in wanted))


def _companions(model: nn.Module, main: str) -> Iterator[str]:
    """What a transformers model needs beside its main input, and the cache that training has off."""
    yield "use_cache"
    if setting(model, "is_encoder_decoder") is True and main != "pixel_values":
        yield "decoder_input_ids"
    placeholders = ("image_token_id", "image_token_index", "audio_token_id", "audio_token_index")
    two_towers = main == "input_ids" and setting(model, "text_config") is not None
    if two_towers and setting(model, *placeholders) is None:  # else features take the place of special tokens
        for name, config in (("pixel_values", "vision_config"), ("input_features", "audio_config")):
            if setting(model, config) is not None:
                yield name
    if main == "past_values":
        yield from ("past_time_features", "past_observed_mask", "future_values", "future_time_features")


def _annotations(model: nn.Module) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(model.forward)
    except Exception:  # names that exist for type checkers only
        return getattr(model.forward, "__annotations__", {})


def guess(
    name: str, parameter: inspect.Parameter | None, annotation: Any, model: nn.Module, *, graph: bool = False
) -> Spec:
    """What one argument may be."""
    if parameter is not None and parameter.kind is parameter.VAR_POSITIONAL:
        return Group("tuple", (("0", layer_input(first_layer(model), model)),))
    if parameter is not None and parameter.kind is parameter.VAR_KEYWORD:
        return Group("dict")
    typed = Constant(False) if name == "use_cache" else _by_annotation(name, annotation, model)
    if typed is not None:
        return typed
    named = TensorSpec((NODES,), "int") if graph and name == "batch" else spec_by_name(name, model)
    if named is not None:
        return named
    spec = layer_input(first_layer(model), model)
    if graph and spec.kind == "float":
        return TensorSpec((NODES, spec.shape[-1]))
    return spec


def _by_annotation(name: str, annotation: Any, model: nn.Module) -> Spec | None:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        choices = [a for a in inner if a is not type(None)]
        return _by_annotation(name, choices[0], model) if choices else None
    if annotation is bool:
        return Constant(False)
    if annotation is int:
        return Constant(
            0 if re.search(r"pos|start|offset|step|idx|index|layer|past", name.lower()) else LENGTH
        )
    if annotation is float:
        return Constant(0.5)
    if annotation is str:
        return Constant("")
    if origin in (list, tuple) or annotation in (list, tuple):
        kind: Any = "tuple" if tuple in (origin, annotation) else "list"
        single = [a for a in inner if a is not Ellipsis]
        kinds = single if len(single) > 1 and kind == "tuple" else (single or [None]) * BATCH
        return Group(kind, tuple((str(i), _item(name, a, model)) for i, a in enumerate(kinds)))
    if origin is dict or annotation is dict:
        return Group("dict")
    return None


def _item(name: str, annotation: Any, model: nn.Module) -> Spec:
    spec = guess(name, None, annotation, model)
    if isinstance(spec, TensorSpec) and len(spec.shape) == 4:  # a list of images
        return TensorSpec(spec.shape[1:], spec.kind)
    return spec


def detection_target(key: str) -> Spec | None:
    """What detection models want of a target: boxes of three objects, and what belongs to them."""
    return {
        "boxes": TensorSpec((3, 4), "float", "boxes"),
        "labels": TensorSpec((3,), "int", "ones"),
        "masks": TensorSpec((3, 64, 64), "int"),
        "keypoints": TensorSpec((3, 17, 3), "float", "ones"),
    }.get(key)
