"""Which ATen operator is what: contractions, activations, norms, views, …

Operators are named without overload and with in-place forms folded into the plain one: `aten.relu_.default`
is "aten.relu". No torch is needed to read these tables.
"""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=4096)
def operation(target: object) -> str:
    """The folded name of a graph node's target: "aten.relu", "aten.convolution"."""
    text = str(target)
    if text.startswith("<"):
        return str(getattr(target, "__name__", text))
    namespace, _, rest = text.partition(".")
    name = rest.partition(".")[0]
    if name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    return f"{namespace}.{name}" if name else namespace


def in_place(target: object) -> bool:
    """The operator writes its first argument: `aten.relu_`."""
    name = str(target).split(".")[1:2]
    return bool(name) and name[0].endswith("_") and not name[0].endswith("__")


def _aten(names: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in names.split())


# ---------------------------------------------------------------- contractions

#: Matrix products; position of the two factors among the arguments.
PRODUCTS: dict[str, tuple[int, int]] = {
    "aten.mm": (0, 1),
    "aten.bmm": (0, 1),
    "aten.matmul": (0, 1),
    "aten.mv": (0, 1),
    "aten.dot": (0, 1),
    "aten.vdot": (0, 1),
    "aten._int_mm": (0, 1),
    "aten._scaled_mm": (0, 1),
    "aten.addmm": (1, 2),
    "aten.addbmm": (1, 2),
    "aten.baddbmm": (1, 2),
    "aten.addmv": (1, 2),
    "aten._addmm_activation": (1, 2),
    "aten._sparse_mm": (0, 1),
    "aten._sparse_addmm": (1, 2),
    "aten._grouped_mm": (0, 1),
    "aten._scaled_grouped_mm": (0, 1),
    "aten.sspaddmm": (1, 2),
}
#: Products that add their first argument.
BIASED = _aten("addmm addbmm baddbmm addmv _addmm_activation _sparse_addmm sspaddmm")
#: x @ weight.T with the weight stored (out, in); argument 2 is the bias.
LINEAR = _aten("linear mkldnn_linear _mkldnn_linear _cslt_sparse_mm")
BILINEAR = _aten("bilinear _trilinear")
#: input, weight, bias, stride, padding, dilation, transposed, output_padding, groups.
CONVOLUTIONS = _aten(
    "convolution _convolution convolution_overrideable mkldnn_convolution cudnn_convolution"
    " cudnn_convolution_transpose cudnn_convolution_relu miopen_convolution miopen_depthwise_convolution"
    " mps_convolution _slow_conv2d_forward slow_conv3d_forward _conv_depthwise2d conv_depthwise3d"
    " slow_conv_transpose2d slow_conv_transpose3d slow_conv_dilated2d slow_conv_dilated3d thnn_conv2d"
    " conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"
)
#: query, key, value, …
ATTENTIONS = _aten(
    "scaled_dot_product_attention _scaled_dot_product_attention_math"
    " _scaled_dot_product_attention_math_for_mps _scaled_dot_product_flash_attention"
    " _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention"
    " _scaled_dot_product_cudnn_attention _scaled_dot_product_fused_attention_overrideable"
    " _flash_attention_forward _efficient_attention_forward _cudnn_attention_forward"
)
#: Whole attention or transformer layers in one operator.
FUSED_LAYERS = _aten("_native_multi_head_attention _transformer_encoder_layer_fwd")
#: Whole recurrent layers, or the gates of one step.
RECURRENT = _aten(
    "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell mkldnn_rnn_layer _cudnn_rnn"
    " miopen_rnn _lstm_mps _thnn_fused_lstm_cell _thnn_fused_gru_cell quantized_lstm quantized_gru"
)
#: The fused gates of one step, which take products already computed.
RECURRENT_CELLS = _aten("_thnn_fused_lstm_cell _thnn_fused_gru_cell")
#: Rows of argument 0 picked by argument 1.
LOOKUPS = _aten(
    "embedding embedding_bag _embedding_bag _embedding_bag_forward_only embedding_renorm"
    " index index_select gather take take_along_dim _unsafe_index"
)
CONTRACTIONS = frozenset(PRODUCTS) | LINEAR | BILINEAR | CONVOLUTIONS

# ---------------------------------------------------------------- elementwise and reductions

#: Activation functions and the name by which rules know them.
ACTIVATIONS: dict[str, str] = {
    "aten.relu": "relu",
    "aten.relu6": "relu6",
    "aten.threshold": "relu",
    "aten.gelu": "gelu",
    "aten.silu": "silu",
    "aten.mish": "mish",
    "aten.tanh": "tanh",
    "aten.sigmoid": "sigmoid",
    "aten.log_sigmoid": "logsigmoid",
    "aten.log_sigmoid_forward": "logsigmoid",
    "aten.softplus": "softplus",
    "aten.elu": "elu",
    "aten.selu": "selu",
    "aten.celu": "celu",
    "aten.leaky_relu": "leaky_relu",
    "aten.rrelu": "leaky_relu",
    "aten.rrelu_with_noise": "leaky_relu",
    "aten.prelu": "leaky_relu",
    "aten._prelu_kernel": "leaky_relu",
    "aten.hardtanh": "hardtanh",
    "aten.hardsigmoid": "hardsigmoid",
    "aten.hardswish": "hardswish",
    "aten.hardshrink": "hardshrink",
    "aten.softshrink": "softshrink",
    "aten.glu": "glu",
    "aten.erf": "erf",
    "aten.sin": "sin",
    "aten.cos": "cos",
    "aten.exp": "exp",
}
#: Activations whose negative side is exactly zero, so that a unit can be dead.
RECTIFYING = frozenset({"relu", "relu6", "hardswish", "hardsigmoid", "hardtanh"})

SOFTMAXES = _aten(
    "softmax _softmax log_softmax _log_softmax _safe_softmax _masked_softmax sparse_softmax _sparse_softmax"
)

#: Normalisations in one operator; positions of input, gain and shift among the arguments.
NORMS: dict[str, tuple[int, int | None, int | None]] = {
    "aten.layer_norm": (0, 2, 3),
    "aten.native_layer_norm": (0, 2, 3),
    "aten.batch_norm": (0, 1, 2),
    "aten.native_batch_norm": (0, 1, 2),
    "aten._native_batch_norm_legit": (0, 1, 2),
    "aten._native_batch_norm_legit_functional": (0, 1, 2),
    "aten._native_batch_norm_legit_no_training": (0, 1, 2),
    "aten._batch_norm_with_update": (0, 1, 2),
    "aten._batch_norm_with_update_functional": (0, 1, 2),
    "aten._batch_norm_no_update": (0, 1, 2),
    "aten._batch_norm_impl_index": (0, 1, 2),
    "aten.cudnn_batch_norm": (0, 1, 2),
    "aten.miopen_batch_norm": (0, 1, 2),
    "aten.batch_norm_elemt": (0, 1, 2),
    "aten.instance_norm": (0, 1, 2),
    "aten.group_norm": (0, 2, 3),
    "aten.native_group_norm": (0, 1, 2),
    "aten.rms_norm": (0, 2, None),
    "aten._fused_rms_norm": (0, 2, None),
}

ADDITIONS = _aten("add sub rsub add_relu _add_relu")
MULTIPLICATIONS = _aten("mul multiply")
DIVISIONS = _aten("div divide true_divide")
#: Pointwise operators of several tensors; axes align from the right.
POINTWISE = (
    ADDITIONS
    | MULTIPLICATIONS
    | DIVISIONS
    | _aten(
        "addcmul addcdiv lerp where maximum minimum fmax fmin max min pow atan2 fmod remainder masked_fill"
        " clamp clamp_min clamp_max logaddexp copysign hypot xlogy eq ne lt le gt ge logical_and logical_or"
        " logical_not bitwise_and bitwise_or bitwise_not bitwise_xor floor_divide float_power polar complex"
        " _foreach_add _foreach_mul"
    )
)
#: Pointwise operators of one tensor, activations aside.
UNARY = _aten(
    "neg abs sqrt rsqrt square reciprocal log log1p log2 log10 expm1 exp2 sign sgn floor ceil round trunc"
    " frac clone contiguous to _to_copy type_as detach alias lift lift_fresh lift_fresh_copy positive"
    " dropout native_dropout _fused_dropout alpha_dropout feature_dropout bernoulli isnan isinf nan_to_num"
    " erfc erfinv tan sinh cosh asin acos atan asinh acosh atanh cumsum cumprod logcumsumexp tril triu"
    " real imag conj _conj _conj_physical resolve_conj resolve_neg view_as_real_copy angle"
    " fake_quantize_per_tensor_affine _unsafe_masked_index roll flip fliplr flipud rot90 zero"
    " _to_dense to_dense _efficientzerotensor"
)
#: Reductions along axes given by argument 1.
REDUCTIONS = _aten(
    "sum mean prod amax amin max min var std var_mean std_mean logsumexp norm linalg_vector_norm nansum"
    " nanmean median argmax argmin any all count_nonzero aminmax"
)
POOLINGS = _aten(
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"
    " _adaptive_avg_pool2d _adaptive_avg_pool3d mkldnn_adaptive_avg_pool2d"
    " max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices"
    " max_pool1d_with_indices mkldnn_max_pool2d mkldnn_max_pool3d adaptive_max_pool1d adaptive_max_pool2d"
    " adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d max_unpool2d max_unpool3d"
    " upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d"
    " _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d"
    " upsample_bicubic2d upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa"
    " grid_sampler grid_sampler_2d grid_sampler_3d reflection_pad1d reflection_pad2d reflection_pad3d"
    " replication_pad1d replication_pad2d replication_pad3d constant_pad_nd pad"
)

# ---------------------------------------------------------------- shape

VIEWS = _aten(
    "view _unsafe_view reshape _reshape_alias view_copy _reshape_copy flatten unflatten view_as reshape_as"
)
PERMUTATIONS = _aten(
    "permute transpose t movedim moveaxis swapaxes swapdims numpy_T adjoint mT mH permute_copy transpose_copy"
)
EXPANSIONS = _aten("expand expand_as broadcast_to expand_copy")
SLICES = _aten("slice narrow slice_copy narrow_copy")
SELECTIONS = _aten("select select_copy")
SPLITS = _aten("split split_with_sizes chunk tensor_split unsafe_split unsafe_split_with_sizes unsafe_chunk")
UNBINDS = _aten("unbind unbind_copy")
CONCATENATIONS = _aten("cat concat concatenate")
STACKS = _aten("stack")
RESHAPES = (
    VIEWS
    | PERMUTATIONS
    | EXPANSIONS
    | SLICES
    | SELECTIONS
    | SPLITS
    | UNBINDS
    | _aten(
        "unsqueeze squeeze diagonal unfold as_strided im2col col2im pixel_shuffle pixel_unshuffle"
        " channel_shuffle repeat tile repeat_interleave view_as_complex view_as_real"
    )
)
#: Operators that put tensors side by side, or one into places of another.
ASSEMBLIES = (
    CONCATENATIONS
    | STACKS
    | _aten(
        "where masked_fill masked_scatter copy slice_scatter select_scatter diagonal_scatter"
        " block_diag fill as_strided_scatter scatter scatter_add scatter_reduce index_put _index_put_impl"
        " index_add index_copy index_fill"
    )
)
#: Results tell which, where or whether, not how much: no value flows through.
DECISIONS = _aten(
    "eq ne lt le gt ge greater less logical_and logical_or logical_not logical_xor argmax argmin argsort"
    " isnan isinf isfinite isin any all count_nonzero nonzero searchsorted bucketize one_hot sign"
    " sgn floor ceil round trunc bitwise_and bitwise_or bitwise_not multinomial bernoulli"
)
#: New tensors of the shape of argument 0, whatever its values.
LIKE = _aten(
    "zeros_like ones_like full_like empty_like rand_like randn_like randint_like new_zeros new_ones new_full"
    " new_empty new_empty_strided"
)
#: Positions of the arguments whose values flow on, where not all do (indices, masks and conditions do not).
FLOWING: dict[str, tuple[int, ...]] = {
    "aten.embedding": (),
    "aten.embedding_bag": (),
    "aten._embedding_bag": (),
    "aten._embedding_bag_forward_only": (),
    "aten.index": (0,),
    "aten._unsafe_index": (0,),
    "aten.index_select": (0,),
    "aten.gather": (0,),
    "aten.take": (0,),
    "aten.take_along_dim": (0,),
    "aten.masked_select": (0,),
    "aten.repeat_interleave": (0,),
    "aten.grid_sampler": (0,),
    "aten.grid_sampler_2d": (0,),
    "aten.grid_sampler_3d": (0,),
    "aten.where": (1, 2),
    "aten.masked_fill": (0, 2),
    "aten.masked_scatter": (0, 2),
    "aten.scatter": (0, 3),
    "aten.scatter_add": (0, 3),
    "aten.scatter_reduce": (0, 3),
    "aten.index_add": (0, 3),
    "aten.index_copy": (0, 3),
    "aten.index_put": (0, 2),
    "aten._index_put_impl": (0, 2),
    "aten.copy": (1,),
    "aten._grouped_mm": (0, 1),
    "aten._scaled_grouped_mm": (0, 1),
    "aten._masked_softmax": (0,),
    **dict.fromkeys(NORMS, (0,)),
    **dict.fromkeys(DECISIONS, ()),
}


def activation(name: str) -> str | None:
    """The activation that a folded operator name computes, None if it is none."""
    if name in SOFTMAXES:
        return "softmax"
    return ACTIVATIONS.get(name)


_KINDS_OF_NORM = ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")


def function(name: str) -> str:
    """Signal.function of a folded operator name: "relu", "softmax", "batch_norm", "product", "exp"."""
    if name in CONTRACTIONS:
        return "product"
    plain = name.rpartition(".")[2].strip("_")
    norm = next((kind for kind in _KINDS_OF_NORM if kind in plain), None) if name in NORMS else None
    return activation(name) or norm or plain
