"""LSTMs whose forget gates start open, in every layer or none."""

from __future__ import annotations

from torch import nn

from initlint import Example
from initlint.testing import normal


def forget_gates(*biases: str) -> nn.Module:
    """Two layers; elements 8 to 16 of each bias named belong to the forget gate."""
    layer = nn.LSTM(16, 8, 2, batch_first=True)
    for name in biases:
        layer.get_parameter(name).data[8:16] = 1.0
    return layer


def forget_gate_of_the_first_layer() -> nn.Module:
    return forget_gates("bias_hh_l0")


def forget_gates_of_all_layers() -> nn.Module:
    return forget_gates("bias_hh_l0", "bias_hh_l1")


examples = (
    Example(
        forget_gate_of_the_first_layer, finds=("bias_hh_l1",), severity="warning", inputs=normal(2, 5, 16)
    ),
    Example(forget_gates_of_all_layers, inputs=normal(2, 5, 16)),
)
