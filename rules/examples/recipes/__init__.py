"""Models for the recipes of IL501, one file a recipe."""

from __future__ import annotations

from initlint import Example

from . import (
    adaln_zero,
    adapter,
    added_branch,
    class_prior,
    depth_scaling,
    forget_bias,
    linear_recurrence,
    logit_scale,
    lora,
    rescaling_adapter,
    siren,
    state_space,
    tanh_gate,
    vera,
    zero_residual_branch,
)

#: By the name of the recipe: one that departs from it, and one that does not.
examples: dict[str, tuple[Example, ...]] = {
    "LoRA": lora.examples,
    "adapter": adapter.examples,
    "VeRA": vera.examples,
    "rescaling adapter": rescaling_adapter.examples,
    "adaLN-Zero": adaln_zero.examples,
    "tanh gate": tanh_gate.examples,
    "added branch": added_branch.examples,
    "depth scaling": depth_scaling.examples,
    "zero residual branch": zero_residual_branch.examples,
    "SIREN": siren.examples,
    "LSTM forget bias": forget_bias.examples,
    "logit scale": logit_scale.examples,
    "state space": state_space.examples,
    "linear recurrence": linear_recurrence.examples,
    "class prior": class_prior.examples,
}
