"""Which rules there are, which are selected, and with what options.

Rules come from packages named in the entry-point group `initlint.rules`, the built-in ones too.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from initlint.analysis import recipes
from initlint.errors import ConfigError, PackError
from initlint.finding import SEVERITIES

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from types import ModuleType

    from initlint.finding import Figure, Severity
    from initlint.rule import Rule

GROUP = "initlint.rules"
EXAMPLES = "examples"  # the package beside a pack's rules that holds their models
ALL = "ALL"


@dataclass(frozen=True, slots=True)
class Selection:
    """What one place (the command line, the configuration, a target's table) selects and ignores.

    `select` None leaves the selection of the place before it as it is. `origin` stands before the key
    in errors: "--" or "pyproject.toml: tool.initlint.".
    """

    origin: str
    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All rules, by code; `removed` says why a code or name is a rule no longer."""

    rules: tuple[type[Rule], ...]
    removed: Mapping[str, str]

    def find(self, text: str, origin: str = "") -> type[Rule]:
        """The rule with this code or name; raises ConfigError."""
        for rule in self.rules:
            if text in (rule.code, rule.name):
                return rule
        raise self._unknown(text, origin)

    def select(self, places: Sequence[Selection]) -> tuple[type[Rule], ...]:
        """The rules that are selected, later places overriding earlier ones.

        The longest selector that matches a rule decides; among equals the later place, and within a
        place `ignore`. A `select` replaces what earlier places selected. Raises ConfigError.
        """
        for place in places:
            for key, selectors in (
                ("select", place.select or ()),
                ("extend-select", place.extend_select),
                ("ignore", place.ignore),
            ):
                for selector in selectors:
                    self._check(selector, place.origin + key)
        return tuple(rule for rule in self.rules if _wanted(rule, places))

    def _check(self, selector: str, origin: str) -> None:
        if selector in self.removed or not any(_length(selector, rule) is not None for rule in self.rules):
            raise self._unknown(selector, origin)

    def _unknown(self, text: str, origin: str) -> ConfigError:
        where = f"{origin}: " if origin else ""
        if text in self.removed:
            return ConfigError(f"{where}rule {text} was removed: {self.removed[text]}")
        known = [key for rule in self.rules for key in (rule.code, rule.name)]
        folded = {key.lower(): key for key in (*known, ALL)}
        close = difflib.get_close_matches(text.lower(), folded, n=1)
        hint = f"; did you mean {folded[close[0]]}?" if close else "; --list-rules shows all rules"
        return ConfigError(f"{where}unknown rule {text!r}{hint}")


def _length(selector: str, rule: type[Rule]) -> int | None:
    """How specific a selector is for a rule; None when it does not match."""
    if selector == ALL:
        return 0
    if selector == rule.name:
        return len(rule.code)
    return len(selector) if selector and rule.code.startswith(selector) else None


def _wanted(rule: type[Rule], places: Sequence[Selection]) -> bool:
    """The strongest vote decides: by length of the selector, then by place, then against."""
    votes: list[tuple[int, int, bool]] = [(0, -1, False)]
    for rank, place in enumerate(places):
        if place.select is not None:
            votes = [vote for vote in votes if vote[2]]
        for selectors, ignored in (((place.select or ()) + place.extend_select, False), (place.ignore, True)):
            for selector in selectors:
                length = _length(selector, rule)
                if length is not None:
                    votes.append((length, rank, ignored))
    return bool(votes) and not max(votes)[2]


def configured(
    rule: type[Rule], options: Mapping[str, Figure], severity: Severity | None, origin: str
) -> Rule:
    """An instance with options and severity as configured; raises ConfigError."""
    defaults = rule.options()
    for key, value in options.items():
        if key not in defaults:
            close = difflib.get_close_matches(key, [*defaults, "severity"], n=1)
            known = f"its options are {', '.join(['severity', *defaults])}"
            hint = f"did you mean {close[0]}?" if close else known
            raise ConfigError(f"{origin}: rule {rule.name} has no option {key!r}; {hint}")
        if not _fits(value, defaults[key]):
            expected = type(defaults[key]).__name__
            raise ConfigError(f"{origin}.{key}: must be {expected}, not {value!r}")
    instance = rule(**options)
    instance.overridden = severity
    return instance


def _fits(value: object, default: Figure) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))


# ---------------------------------------------------------------- loading the packs


def load(group: str = GROUP) -> Catalogue:
    """Import every rule of every installed pack; raises PackError."""
    from importlib.metadata import entry_points

    origins: dict[type[Rule], str] = {}
    removed: dict[str, str] = {}
    for point in entry_points(group=group):
        pack = f"rule pack {point.name!r} of {_distribution(point)}"
        package = _package(point, pack)
        removed |= getattr(package, "removed", {})
        for rule in rules_of(package, pack):
            origins.setdefault(rule, _distribution(point))
    if not origins:
        raise PackError(
            f"no rules are installed: nothing provides the entry point {group}; "
            "run 'pip install initlint' (in a checkout: 'pip install -e .')"
        )
    recipes.known()  # a broken one is told before anything is linted
    _check_distinct(origins)
    return Catalogue(tuple(sorted(origins, key=lambda rule: rule.code)), removed)


def _package(point: EntryPoint, pack: str) -> ModuleType:
    try:
        package = point.load()
    except Exception as error:
        raise PackError(f"{pack} cannot be imported: {type(error).__name__}: {error}") from error
    if not inspect.ismodule(package):
        raise PackError(f"{pack} names {point.value}, which is not a module")
    return package


def rules_of(package: ModuleType, pack: str = "") -> Iterator[type[Rule]]:
    """Rules defined in a module, or in the modules of a package; names with an underscore are bases.

    Raises PackError, in which `pack` is how the pack is called.
    """
    from initlint.rule import Rule

    pack = pack or f"rule pack {package.__name__}"
    for module in _modules(package, pack):
        for found in vars(module).values():
            if (
                inspect.isclass(found)
                and issubclass(found, Rule)
                and found.__module__ == module.__name__
                and not found.__name__.startswith("_")
            ):
                _check_complete(found, pack)
                yield found


def _modules(package: ModuleType, pack: str) -> Iterator[ModuleType]:
    """A package and all modules below it but those of examples, which import torch."""
    yield package
    for found in pkgutil.iter_modules(getattr(package, "__path__", []), package.__name__ + "."):
        if found.name.endswith(f".{EXAMPLES}"):
            continue
        try:
            module = importlib.import_module(found.name)
        except Exception as error:
            raise PackError(
                f"{pack} cannot be imported: {found.name}: {type(error).__name__}: {error}"
            ) from error
        yield from _modules(module, pack)


def check_code_and_name(code: str, name: str) -> None:
    """Raise ConfigError unless they have the form of a rule's code and of a rule's name."""
    if not re.fullmatch(r"[A-Z]{1,5}[0-9]{1,4}", code):
        raise ConfigError("no code of the form IL101")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ConfigError("no name of the form constant-weight")


def _check_complete(rule: type[Rule], pack: str) -> None:
    where = f"{pack} {rule.__module__}.{rule.__name__}"
    try:
        check_code_and_name(getattr(rule, "code", ""), getattr(rule, "name", ""))
    except ConfigError as error:
        raise PackError(f"{where} has {error}") from None
    if getattr(rule, "severity", None) not in SEVERITIES:
        raise PackError(f"{where} has no severity out of {', '.join(SEVERITIES)}")
    if not (rule.__doc__ or "").strip():  # not the base class's, which getdoc would find
        raise PackError(f"{where} has no docstring")


def _check_distinct(origins: Mapping[type[Rule], str]) -> None:
    for attribute in ("code", "name"):
        seen: dict[str, type[Rule]] = {}
        for rule in origins:
            key = getattr(rule, attribute)
            other = seen.setdefault(key, rule)
            if other is not rule:
                raise PackError(
                    f"{attribute} {key} is defined twice: by {other.__module__} of {origins[other]} "
                    f"and by {rule.__module__} of {origins[rule]}"
                )


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
