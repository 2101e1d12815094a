"""What can go wrong in initlint itself.

InitlintError            anything that stops the check; exit status 2
├── ConfigError          pyproject.toml or a command-line value is wrong
├── PackError            a rule pack cannot be loaded
└── TargetError          one target cannot be linted; the others go on
"""

from __future__ import annotations


class InitlintError(Exception):
    """A failure that is told in one sentence, never as a traceback."""

    exit_code = 2


class ConfigError(InitlintError):
    """The configuration or a command-line value cannot be used."""


class PackError(InitlintError):
    """A rule pack cannot be loaded, or its rules contradict each other."""


class TargetError(InitlintError):
    """A target failed in one of the stages: names the stage, the exception and the user's line."""

    def __init__(
        self, stage: str, kind: str, message: str, file: str | None = None, line: int | None = None
    ) -> None:
        super().__init__(message)
        self.stage = stage
        self.kind = kind
        self.message = message
        self.file = file
        self.line = line

    def __reduce__(self) -> tuple[type[TargetError], tuple[str, str, str, str | None, int | None]]:
        return type(self), (self.stage, self.kind, self.message, self.file, self.line)
