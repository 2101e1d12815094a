"""The base class of all rules, and the examples that prove, test and document them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Literal, cast, get_args

from initlint.finding import Finding

if TYPE_CHECKING:
    from torch import nn

    from initlint.evidence import Evidence, LostWrite, ModuleRecord, Signal, Tensor
    from initlint.finding import Figure, Location, Severity, Site, Suggestion

Relation = Literal["same", "upstream", "anywhere"]
#: What a finding is about, in the order in which one thing brings about the next. Memory is allocated
#: and written; what was written may be no number, or a constant. A recipe asks for a draw, the draw decides
#: the scale, and a scale may be odd in comparison with siblings, summands or bounds. Only then does a model
#: run: through its normalisations, with a signal, to an outcome: the loss and the gradients.
Level = Literal[
    "memory",
    "write",
    "non-finite",
    "value",
    "recipe",
    "draw",
    "scale",
    "comparison",
    "normalisation",
    "signal",
    "outcome",
]
LEVELS: tuple[Level, ...] = get_args(Level)
Need = Literal["provenance", "statistics", "graph", "probe", "confirmation", "rebuild"]
NEEDS: tuple[Need, ...] = ("provenance", "statistics", "graph", "probe", "confirmation", "rebuild")


@dataclass(frozen=True, slots=True)
class Example:
    """A small model and all subjects in which the rule finds something; a near miss finds nothing.

    `finds` names the subjects as reports fold them, "blocks.{0..3}.fc.weight"; `severity` is that of the
    worst finding, None the rule's own. `inputs` returns what the probe feeds the model, in any form of the
    --inputs option.
    """

    build: Callable[[], nn.Module]
    finds: tuple[str, ...] = ()
    inputs: Callable[[], object] | None = None
    options: Mapping[str, Figure] = field(default_factory=dict)
    severity: Severity | None = None

    @property
    def name(self) -> str:
        """The build function's name: test id and caption."""
        return self.build.__name__


class _ExamplesBeside:
    """`examples` of package.examples.module, for a rule of package.module; imported when it is asked for."""

    def __get__(self, rule: Rule | None, owner: type[Rule]) -> tuple[Example, ...]:
        package, _, module = owner.__module__.rpartition(".")
        beside = f"{package}.examples"
        try:
            found: tuple[Example, ...] = import_module(f"{beside}.{module}").examples
        except ModuleNotFoundError as error:
            if error.name not in (beside, f"{beside}.{module}"):
                raise
            return ()
        return found


class Rule:
    """One check.

    The docstring says the fact (first line), why it matters, what to do, and, under `References:`,
    where thresholds come from. Options are annotated class attributes in lower case that hold a
    default; a configuration may replace them.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity]
    needs: ClassVar[frozenset[Need]] = frozenset()
    #: Findings of an earlier level explain this rule's on the same tensor or module; one about the run is
    #: explained by some of them only, and by some at a distance (`initlint.engine.causes`). A rule without a
    #: level stands alone: it neither explains nor is explained.
    level: ClassVar[Level | None] = None
    #: Exceptions from the order, both ways round: rules that explain this one on the same tensor or module,
    #: upstream of it, or anywhere.
    explained_by: ClassVar[Mapping[str, Relation]] = {}
    #: Severity of a finding all of whose tensors an installed package chose; None: the rule's own. The
    #: scales of a package suit the sizes that it publishes, of which the linted model may be none.
    published: ClassVar[Severity | None] = None
    #: Read from the module of the rule's own name in the package `examples` beside it, unless given here.
    examples: ClassVar[tuple[Example, ...]] = cast(tuple[Example, ...], _ExamplesBeside())
    #: Severity of every finding where the configuration sets one.
    overridden: Severity | None = None

    def __init__(self, **options: Figure) -> None:
        known = self.options()
        for key, value in options.items():
            if key not in known:
                raise TypeError(f"rule {self.name} has no option {key!r}")
            setattr(self, key, value)

    @classmethod
    def options(cls) -> dict[str, Figure]:
        """Names and defaults of the rule's options."""
        reserved = set(Rule.__annotations__)
        return {
            key: getattr(cls, key)
            for key in inspect.get_annotations(cls)
            if key not in reserved and not key.startswith("_")
        }

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring: the fact."""
        return (inspect.getdoc(cls) or "").split("\n", 1)[0]

    def check(self, model: Evidence) -> Iterable[Finding]:
        """Yield a finding for each mistake. Never touches tensors, prints or raises on odd models."""
        raise NotImplementedError

    def finding(
        self,
        subject: Tensor | ModuleRecord | Signal | LostWrite | str | Sequence[Tensor],
        message: str,
        *,
        help: str = "",
        measured: Mapping[str, Figure] | None = None,
        expected: Mapping[str, Figure] | None = None,
        severity: Severity | None = None,
        site: Site | None = None,
        related: Iterable[str] = (),
        locations: Iterable[Location] = (),
        suggestion: Suggestion | None = None,
    ) -> Finding:
        """A finding of this rule; names and source line are taken from `subject` unless given.

        Of several tensors, the one to look at first in front, the others are `related` before those given.
        """
        first, *others = subject if isinstance(subject, (tuple, list)) else (subject,)
        name, line = _name_and_site(first)
        return Finding(
            code=self.code,
            rule=self.name,
            severity=self.overridden or severity or self._usual((first, *others)),
            subject=name,
            message=message,
            help=help,
            related=(*(tensor.name for tensor in others), *related),
            measured=dict(measured or {}),
            expected=dict(expected or {}),
            site=site or line,
            locations=tuple(locations),
            suggestion=suggestion,
        )

    def _usual(self, subjects: Sequence[Tensor | ModuleRecord | Signal | LostWrite | str]) -> Severity:
        """The severity of a finding that sets none itself."""
        if self.published is not None and all(getattr(subject, "published", False) for subject in subjects):
            return self.published
        return self.severity

    @staticmethod
    def note_if_published(tensors: Iterable[Tensor]) -> Severity | None:
        """As `published = "note"`, for a rule that needs it for some of its findings only."""
        return "note" if all(tensor.published for tensor in tensors) else None


def _name_and_site(subject: Tensor | ModuleRecord | Signal | LostWrite | str) -> tuple[str, Site | None]:
    from initlint import evidence

    match subject:
        case evidence.Tensor():
            return subject.name, subject.site
        case evidence.ModuleRecord():
            return subject.path, subject.construction
        case evidence.Signal():
            return subject.module or subject.node, subject.site
        case evidence.LostWrite():
            return subject.subject, subject.write.site
        case _:
            return subject, None


def subjects(finding: Finding) -> Iterator[str]:
    """All names a finding speaks of."""
    yield finding.subject
    yield from finding.related
