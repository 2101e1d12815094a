"""Starts a rule: its file and its example models, which already run.

python -m initlint.scaffold IL112 bias-before-norm rules
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from initlint import registry
from initlint.errors import ConfigError, InitlintError

RULE = '''\
"""{code} {name}."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from initlint import Rule

if TYPE_CHECKING:
    from initlint import Evidence, Finding


class {cls}(Rule):
    """The fact, in one line.

    Why it does harm.

    What to do.
    """

    code = "{code}"
    name = "{name}"
    severity = "warning"
    needs = frozenset({{"statistics"}})

    #: why this number and no other: a derivation or a source
    largest: float = 1000.0

    def check(self, model: Evidence) -> Iterator[Finding]:
        for tensor in model.parameters:
            figures = tensor.statistics
            if figures is not None and figures.absmax > self.largest:
                yield self.finding(
                    tensor,
                    f"holds {{figures.absmax:.3g}}",
                    measured={{"absmax": figures.absmax}},
                    expected={{"absmax": f"at most {{self.largest:g}}"}},
                    help="what to change, in the user's own terms",
                )
'''

EXAMPLES = '''\
"""Models for {code} {name}."""

from __future__ import annotations

from torch import nn

from initlint import Example


def faulty() -> nn.Module:
    model = nn.Linear(8, 4)
    nn.init.constant_(model.bias, 5000.0)
    return model


def near_miss() -> nn.Module:
    return nn.Linear(8, 4)


examples = (
    Example(faulty, finds=("bias",)),
    Example(near_miss),
)
'''


def start_rule(code: str, name: str, folder: Path) -> tuple[Path, Path]:
    """The rule's file and that of its examples, newly written; raises ConfigError."""
    registry.check_code_and_name(code, name)
    catalogue = registry.load()
    taken = {key for rule in catalogue.rules for key in (rule.code, rule.name)} | set(catalogue.removed)
    for key in (code, name):
        if key in taken:
            raise ConfigError(f"{key} is taken, now or once: choose another")
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")
    stem = f"{code}_{name}".lower().replace("-", "_")
    cls = "".join(word.capitalize() for word in name.split("-"))
    files = folder / f"{stem}.py", folder / registry.EXAMPLES / f"{stem}.py"
    package = files[1].parent / "__init__.py"
    if not package.exists():
        package.parent.mkdir(exist_ok=True)
        package.write_text('"""Models that the rules are tried on, one file a rule."""\n', encoding="utf-8")
    for file, template in zip(files, (RULE, EXAMPLES), strict=True):
        file.write_text(template.format(code=code, name=name, cls=cls), encoding="utf-8")
    return files


@click.command()
@click.argument("code")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
def main(code: str, name: str, folder: Path) -> None:
    """Start a rule of this CODE and NAME in FOLDER, the package of its pack."""
    try:
        files = start_rule(code, name, folder)
    except InitlintError as error:
        sys.exit(f"initlint: {error}")
    click.echo("\n".join(map(str, files)))


if __name__ == "__main__":
    main()
