"""Models for IL319 uncalled-init."""

from __future__ import annotations

from torch import nn

from initlint import Example


def perceptron(*, called: bool) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 8)
            if called:
                self._init_weights()

        def _init_weights(self) -> None:
            nn.init.normal_(self.fc1.weight, std=0.02)
            nn.init.normal_(self.fc2.weight, std=0.02)

    return Net()


def initialiser_never_called() -> nn.Module:
    return perceptron(called=False)


def initialiser_called_by_the_constructor() -> nn.Module:
    return perceptron(called=True)


def initialiser_called_by_the_build() -> nn.Module:
    model = perceptron(called=False)
    model._init_weights()  # type: ignore[operator]
    return model


examples = (
    Example(initialiser_never_called, finds=("fc1.weight", "fc2.weight")),
    Example(initialiser_called_by_the_constructor),
    Example(initialiser_called_by_the_build),
)
