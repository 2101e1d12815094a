"""Cost of the statistics pass against one streaming read of the same memory, everything in one run.

    python -m benchmarks.statistics_pass [--blocks 8] [--repeats 5]

Two sets of tensors: large matrices (ViT-L blocks, 12.6 M values each) and many small ones (the shapes of an
EfficientNet). "read" sums every value with one thread, which is as fast as memory allows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import xxhash

from initlint.values.statistics import read

Tensors = Mapping[str, torch.Tensor]


def transformer(blocks: int) -> dict[str, torch.Tensor]:
    shapes = {"qkv": (3072, 1024), "proj": (1024, 1024), "fc1": (4096, 1024), "fc2": (1024, 4096)}
    tensors = {}
    for block in range(blocks):
        for name, shape in shapes.items():
            tensors[f"{block}.{name}.weight"] = torch.randn(shape) * 0.02
            tensors[f"{block}.{name}.bias"] = torch.zeros(shape[0])
        tensors |= {f"{block}.norm{i}.weight": torch.ones(1024) for i in (1, 2)}
    return tensors


def convolutions(stages: int) -> dict[str, torch.Tensor]:
    tensors = {}
    for stage in range(stages):
        width = 32 * (1 + stage // 4)
        shapes = [
            (6 * width, width, 1, 1),
            (6 * width, 1, 3, 3),
            (width, 6 * width, 1, 1),
            (6 * width, 8, 1, 1),
        ]
        for i, shape in enumerate(shapes):
            tensors[f"{stage}.{i}.weight"] = torch.randn(shape) * 0.05
            tensors[f"{stage}.{i}.norm"] = torch.ones(shape[0])
    return tensors


def fastest(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Shortest of several interleaved runs of each, in seconds: the others were disturbed."""
    seconds = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for label, work in works.items():
            start = time.perf_counter()
            work()
            seconds[label] = min(seconds[label], time.perf_counter() - start)
    return seconds


def total(tensors: Tensors) -> None:
    for tensor in tensors.values():
        tensor.sum()


def hashed(tensors: Tensors) -> None:
    for tensor in tensors.values():
        xxhash.xxh3_128_digest(tensor.reshape(-1).view(torch.uint8).numpy().data)


def naive(tensors: Tensors) -> None:
    """The same figures by one torch call each."""
    for tensor in tensors.values():
        tensor.amin(), tensor.amax(), tensor.mean(), tensor.std(unbiased=False)
        centred = tensor - tensor.mean()
        centred.pow(3).mean(), centred.pow(4).mean(), (tensor == 0).sum(), tensor.isfinite().all()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"{'tensors':>14} {'values':>12} {'work':>18} {'seconds':>9} {'reads':>7}")
    sets: dict[str, Tensors] = {
        "ViT-L blocks": transformer(options.blocks),
        "small kernels": convolutions(60),
        "bfloat16": {k: v.bfloat16() for k, v in transformer(max(options.blocks // 4, 1)).items()},
        "float64": {k: v.double() for k, v in transformer(max(options.blocks // 8, 1)).items()},
    }
    for name, tensors in sets.items():
        values = sum(t.numel() for t in tensors.values())
        works: dict[str, Callable[[], object]] = {
            "read": partial(total, tensors),
            "xxh3 of the bytes": partial(hashed, tensors),
            "statistics pass": partial(read, tensors),
            "naive torch": partial(naive, tensors),
        }
        seconds = fastest(works, options.repeats)
        for label, taken in seconds.items():
            print(f"{name:>14} {values:>12,} {label:>18} {taken:>9.4f} {taken / seconds['read']:>7.1f}")


if __name__ == "__main__":
    main()
