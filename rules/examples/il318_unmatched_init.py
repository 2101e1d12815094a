"""Models for IL318 unmatched-init."""

from __future__ import annotations

from torch import nn

from initlint import Example


def suffix_compared_with_full_names() -> nn.Module:
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
    def init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d):
            nn.init.normal_(module.weight, std=0.01)

    return nn.Sequential(nn.ConvTranspose1d(4, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 4, 3)).apply(
        init_weights
    )


def flag_misspelled() -> nn.Module:
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
    class Perceptron(nn.Module):
        flag = "zero_start"

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(8, 16), nn.Linear(16, 8)
            for module in self.children():
                std = 0.0 if hasattr(module, self.flag) else 0.02
                nn.init.normal_(module.get_parameter("weight"), std=std)

    return Perceptron()


def helper_knows_more_layers_than_there_are() -> nn.Module:
    def init_weights(module: nn.Module) -> None:
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)

    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)).apply(init_weights)


def special_name_absent() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    def init_weights() -> None:
        for name, parameter in model.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.01)
            elif name.endswith("weight"):
                nn.init.normal_(parameter, std=0.02)

    init_weights()
    return model


examples = (
    Example(suffix_compared_with_full_names, finds=("{0,1}.proj.weight",)),
    Example(transposed_convolutions_missed, finds=("{0,2}",)),
    Example(flag_misspelled, finds=("{0,1}",)),
    Example(prefix_held_by_the_class, finds=("branch.out",)),
    Example(helper_knows_more_layers_than_there_are),
    Example(special_name_absent),
    Example(scale_by_a_flag_that_no_layer_has),
)
