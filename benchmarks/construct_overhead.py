"""Cost of watching a build: construct() against the plain build, and where the time goes.

    python benchmarks/construct_overhead.py [--runs 15] [--only efficientnet_b0]

Needs timm for the published models. Plain and watched builds alternate within one run; a ratio is the median
of the paired ratios of CPU time. "watched" is the build under the recorder, "read" what reading
the record takes afterwards. The values of every build are compared bit for bit.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from importlib import import_module

import torch
from torch import nn

from initlint.construct import Construction, construct

Factory = Callable[[], nn.Module]


def transformer() -> nn.Module:
    """A decoder of about 300 million parameters with GPT-2's initialisation."""
    width, layers, vocabulary = 1024, 20, 50_257

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def initialise(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)

    model = nn.Sequential(
        nn.Embedding(vocabulary, width), *(Block() for _ in range(layers)), nn.LayerNorm(width)
    )
    return model.apply(initialise)


def published(name: str) -> Factory:
    timm = import_module("timm")
    return lambda: timm.create_model(name)


MODELS: dict[str, Callable[[], Factory]] = {
    "resnet50": lambda: published("resnet50"),
    "vit_base_patch16_224": lambda: published("vit_base_patch16_224"),
    "efficientnet_b0": lambda: published("efficientnet_b0"),
    "transformer_300m": lambda: transformer,
}


def checksum(model: nn.Module) -> list[float]:
    return [float(tensor.detach().double().sum()) for tensor in (*model.parameters(), *model.buffers())]


class Timed:
    """A build that measures its own CPU seconds."""

    def __init__(self, build: Factory) -> None:
        self.build = build
        self.seconds = 0.0

    def __call__(self) -> nn.Module:
        """The model, built and timed."""
        start = time.process_time()
        model = self.build()
        self.seconds = time.process_time() - start
        return model


def watched_build(build: Factory) -> Construction:
    return construct(lambda: build, seed=0)


def measure(build: Factory, runs: int) -> tuple[list[float], list[float], list[float], bool]:
    """CPU seconds of builds: plain, watched, watched with the record read; and whether values agree."""
    plain, watched, whole = [], [], []
    same = True
    build()  # imports and caches
    watched_build(build)
    for _ in range(runs):
        gc.collect()
        torch.manual_seed(0)
        start = time.process_time()
        model = build()
        plain.append(time.process_time() - start)
        expected = checksum(model)
        del model
        gc.collect()
        marked = Timed(build)
        start = time.process_time()
        construction = watched_build(marked)
        end = time.process_time()
        watched.append(marked.seconds)
        whole.append(end - start)
        same &= checksum(construction.model) == expected
        del construction
    return plain, watched, whole, same


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", choices=MODELS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'model':24s} {'plain s':>9s} {'watched':>9s} {'+ read':>9s}  values")
    for name in [options.only] if options.only else MODELS:
        plain, watched, whole, same = measure(MODELS[name](), options.runs)
        ratio = statistics.median(w / p for p, w in zip(plain, watched, strict=True))
        total = statistics.median(w / p for p, w in zip(plain, whole, strict=True))
        agreement = "identical" if same else "DIFFERENT"
        print(
            f"{name:24s} {statistics.median(plain):9.3f} {ratio:8.2f}x {total:8.2f}x  {agreement}", flush=True
        )


if __name__ == "__main__":
    main()
