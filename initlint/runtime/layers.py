"""What the classes of torch.nn are: one row a class, the only place that lists them.

A subclass is what its nearest base in the table is, so the rows of base classes stand for layers that users
derive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm


@dataclass(frozen=True, slots=True)
class Layer:
    """Facts of one class. What a class does not fix is empty or zero."""

    operator: str = ""  # of ATen, that the layer's work comes down to; "identity" where it passes values on
    role: str = ""  # of its weight, as in `Use.role`; empty where it has no weight
    rank: int = 0  # dimensions of a batch of inputs
    width: str = (
        ""  # attribute: how many channels, features or ids it takes; empty where it never comes first
    )
    gates: int = 1  # that its weights hold one after the other
    activation: str = ""  # that follows its weights within the layer


def _kernel(operator: str, dimensions: int) -> Layer:
    return Layer(operator, "kernel", dimensions + 2 if dimensions else 0, "in_channels")


_MATRIX = Layer("linear", "matrix", width="in_features")
_BATCH_NORM = Layer("batch_norm", "gain", width="num_features")
_RNN = Layer("rnn_tanh", "recurrent", 3, "input_size", 1, "tanh")
_LSTM = Layer("lstm", "recurrent", 3, "input_size", 4, "sigmoid")
_GRU = Layer("gru", "recurrent", 3, "input_size", 3, "sigmoid")

LAYERS: dict[type[nn.Module], Layer] = {
    nn.Linear: _MATRIX,
    nn.Bilinear: replace(_MATRIX, operator="bilinear", width="in1_features"),
    nn.Embedding: Layer("embedding", "lookup", width="num_embeddings"),
    nn.EmbeddingBag: Layer("embedding", "lookup", width="num_embeddings"),
    _ConvNd: _kernel("convolution", 0),
    nn.Conv1d: _kernel("convolution", 1),
    nn.Conv2d: _kernel("convolution", 2),
    nn.Conv3d: _kernel("convolution", 3),
    _ConvTransposeNd: _kernel("convolution_transpose", 0),
    nn.ConvTranspose1d: _kernel("convolution_transpose", 1),
    nn.ConvTranspose2d: _kernel("convolution_transpose", 2),
    nn.ConvTranspose3d: _kernel("convolution_transpose", 3),
    nn.RNNBase: replace(_RNN, operator=""),  # its mode tells which
    nn.RNN: _RNN,
    nn.LSTM: _LSTM,
    nn.GRU: _GRU,
    nn.RNNCellBase: replace(_RNN, operator="", rank=2, activation=""),
    nn.RNNCell: replace(_RNN, operator="rnn_tanh_cell", rank=2),
    nn.LSTMCell: replace(_LSTM, operator="lstm_cell", rank=2),
    nn.GRUCell: replace(_GRU, operator="gru_cell", rank=2),
    nn.MultiheadAttention: Layer("attention", "matrix", 3, "embed_dim", activation="softmax"),
    nn.TransformerEncoderLayer: Layer(rank=3),
    nn.TransformerDecoderLayer: Layer(rank=3),
    _NormBase: Layer("", "gain"),
    _BatchNorm: _BATCH_NORM,
    nn.BatchNorm2d: replace(_BATCH_NORM, rank=4),
    nn.BatchNorm3d: replace(_BATCH_NORM, rank=5),
    _InstanceNorm: Layer("instance_norm", "gain"),
    nn.LayerNorm: Layer("layer_norm", "gain", width="normalized_shape"),
    nn.GroupNorm: Layer("group_norm", "gain"),
    nn.RMSNorm: Layer("rms_norm", "gain"),
    nn.PReLU: Layer("prelu", "scalar"),
    nn.Identity: Layer("identity"),
    _DropoutNd: Layer("identity"),
    nn.ReLU: Layer("relu"),
    nn.ReLU6: Layer("relu6"),
    nn.GELU: Layer("gelu"),
    nn.SiLU: Layer("silu"),
    nn.Mish: Layer("mish"),
    nn.Tanh: Layer("tanh"),
    nn.Sigmoid: Layer("sigmoid"),
    nn.LogSigmoid: Layer("log_sigmoid"),
    nn.Softplus: Layer("softplus"),
    nn.ELU: Layer("elu"),
    nn.SELU: Layer("selu"),
    nn.CELU: Layer("celu"),
    nn.LeakyReLU: Layer("leaky_relu"),
    nn.RReLU: Layer("rrelu"),
    nn.Hardtanh: Layer("hardtanh"),
    nn.Hardsigmoid: Layer("hardsigmoid"),
    nn.Hardswish: Layer("hardswish"),
    nn.Hardshrink: Layer("hardshrink"),
    nn.Softshrink: Layer("softshrink"),
    nn.Threshold: Layer("threshold"),
    nn.Softmax: Layer("softmax"),
    nn.Softmax2d: Layer("softmax"),
    nn.LogSoftmax: Layer("log_softmax"),
    nn.GLU: Layer("glu"),
    nn.Flatten: Layer("flatten"),
    nn.Unflatten: Layer("unflatten"),
    nn.AvgPool1d: Layer("avg_pool1d"),
    nn.AvgPool2d: Layer("avg_pool2d"),
    nn.AvgPool3d: Layer("avg_pool3d"),
    nn.MaxPool1d: Layer("max_pool1d"),
    nn.MaxPool2d: Layer("max_pool2d"),
    nn.MaxPool3d: Layer("max_pool3d"),
    nn.AdaptiveAvgPool1d: Layer("adaptive_avg_pool1d"),
    nn.AdaptiveAvgPool2d: Layer("adaptive_avg_pool2d"),
    nn.AdaptiveAvgPool3d: Layer("adaptive_avg_pool3d"),
    nn.Upsample: Layer("upsample_nearest2d"),
    nn.PixelShuffle: Layer("pixel_shuffle"),
    nn.PixelUnshuffle: Layer("pixel_unshuffle"),
}

#: Names of the classes that look rows of a table up.
LOOKUPS = frozenset(cls.__name__ for cls, layer in LAYERS.items() if layer.role == "lookup")
_OTHER = Layer()


def layer(module: nn.Module | None) -> Layer:
    """What a module is by its nearest class in the table; an empty row for all others."""
    found = next((LAYERS[cls] for cls in type(module).__mro__ if cls in LAYERS), _OTHER)
    if found is LAYERS[nn.RNNBase]:
        return {"LSTM": _LSTM, "GRU": _GRU}.get(str(getattr(module, "mode", "")), _RNN)
    return found
