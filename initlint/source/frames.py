"""From Python frames to the lines that users wrote.

A frame is kept as (code object, offset of the instruction): that is cheap to take, keeps no local
variable alive, and gives line and columns when they are asked for.
"""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from functools import lru_cache
from itertools import islice
from types import CodeType, FrameType
from typing import Literal

from initlint.finding import Site

Instruction = tuple[CodeType, int]
Role = Literal["user", "torch", "constructor", "init", "own"]


def _folder(package: str) -> str:
    """Where a package is installed, found without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return os.path.dirname(os.path.abspath(spec.origin))


_TORCH = os.path.join(_folder("torch"), "")
_TORCH_NN = os.path.join(_TORCH, "nn", "")
ENGINE = os.path.join(_folder("initlint"), "")
_STDLIB = os.path.abspath(sysconfig.get_paths()["stdlib"]) + os.sep
#: Files whose functions are spelled like those of torch.nn.init and pass the calls on to it.
_INITIALISERS = tuple(
    os.sep + path.replace("/", os.sep)
    for path in (
        "torch/nn/init.py",
        "timm/layers/weight_init.py",
        "timm/models/layers/weight_init.py",
        "transformers/initialization.py",
    )
)
#: Packages that wrap torch.nn while a model is built: their frames lie between the user's line and torch.
_WRAPPERS = frozenset({"torch", "torchgen", "functorch", "accelerate", "deepspeed", "python"})


@lru_cache(maxsize=4096)
def package(filename: str) -> str | None:
    """Installed package of a file: "python" for the standard library, None for the user's own files."""
    path = os.path.abspath(filename)
    for folder in ("site-packages", "dist-packages"):
        _, found, rest = path.rpartition(os.sep + folder + os.sep)
        if found:
            return rest.partition(os.sep)[0].removesuffix(".py")
    return "python" if path.startswith(_STDLIB) else None


@lru_cache(maxsize=4096)
def outside(filename: str) -> bool:
    """The file is neither torch's, nor Python's, nor initlint's, nor of a package that only wraps torch."""
    if filename.startswith("<"):
        return not filename.startswith(("<frozen", "<string", "<attrs", "<torch", "<eval_with_key>"))
    path = os.path.abspath(filename)
    return not path.startswith((_TORCH, ENGINE)) and package(path) not in _WRAPPERS


def role(code: CodeType) -> Role:
    """What a frame that runs this code stands for.

    "init" is a function of torch.nn.init or one that stands in for it, "constructor" the `__init__` of a
    torch.nn module or what a lazy one leaves for the first forward, "torch" any other frame that no user
    wrote, "own" initlint's, "user" all the rest, libraries included.
    """
    filename, name = code.co_filename, code.co_name
    if filename.endswith(_INITIALISERS):
        if name.startswith("_"):
            return "torch"
        return "init" if name.endswith("_") or filename.startswith(_TORCH) else "user"
    if outside(filename):
        return "user"
    if os.path.abspath(filename).startswith(ENGINE):
        return "own"
    constructs = name in ("__init__", "_infer_parameters") and filename.startswith(_TORCH_NN)
    return "constructor" if constructs else "torch"


class Positions:
    """Lines and columns of instructions, each looked up once."""

    def __init__(self) -> None:
        self._sites: dict[tuple[int, int], Site] = {}
        self._codes: list[CodeType] = []  # keeps the ids in use as keys valid

    def site(self, instruction: Instruction) -> Site:
        """The line of an instruction."""
        code, offset = instruction
        key = (id(code), offset)
        found = self._sites.get(key)
        if found is None:
            filename = code.co_filename
            file = filename if filename.startswith("<") else os.path.abspath(filename)
            line = position(instruction)[0]
            found = Site(file, line, code.co_name, package(filename), code.co_qualname)
            self._sites[key] = found
            self._codes.append(code)
        return found


def position(instruction: Instruction) -> tuple[int, int, int, int]:
    """First line, last line, first column, last column of an instruction's source; columns -1 if unknown."""
    code, offset = instruction
    spot = next(islice(code.co_positions(), max(offset, 0) // 2, None), (None, None, None, None))
    line, end, column, end_column = spot
    first = line or code.co_firstlineno
    if column is None or end_column is None:
        return first, end or first, -1, -1
    return first, end or first, column, end_column


def here(frame: FrameType | None) -> Site | None:
    """The innermost line outside torch, from this frame outwards."""
    while frame is not None and not _users(frame.f_code):
        frame = frame.f_back
    return None if frame is None else _site(frame.f_code, frame.f_lineno)


def in_forward(frame: FrameType | None) -> Site | None:
    """The line of the innermost method called forward, outside torch, from this frame outwards."""
    while frame is not None and (frame.f_code.co_name != "forward" or not _users(frame.f_code)):
        frame = frame.f_back
    return None if frame is None else _site(frame.f_code, frame.f_lineno)


@lru_cache(maxsize=4096)
def _users(code: CodeType) -> bool:
    return role(code) == "user"


@lru_cache(maxsize=4096)
def _site(code: CodeType, line: int) -> Site:
    file = code.co_filename
    return Site(file if file.startswith("<") else os.path.abspath(file), line, code.co_name, package(file))
