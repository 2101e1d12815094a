"""What a model is called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of one forward call, and how to speak of them: "float32[2, 3, 224, 224], inferred"."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    source: Literal["given", "hint", "inferred", "none"] = "given"
    text: str = ""
