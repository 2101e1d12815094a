"""Runs the user's code once, under a recorder: import, build, and where every value came from."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.construct.branch_log import Questions
from initlint.construct.inspect.lost_writes import lost_writes
from initlint.construct.inspect.modules import Build, module_records
from initlint.construct.inspect.ties import ties
from initlint.construct.inspect.unregistered import hidden, unregistered
from initlint.construct.inspect.untaken_branches import member_tests
from initlint.construct.lazy_layers import decide, first_calls, undecided
from initlint.construct.provenance import Reading
from initlint.construct.recorder import Recorder
from initlint.construct.statements import statements
from initlint.evidence import (
    LostWrite,
    MemberTest,
    ModuleRecord,
    Provenance,
    Statement,
    Tie,
    Unregistered,
)
from initlint.finding import Site
from initlint.runtime import Inputs, fault, seed_generators, seeded, stdout_to_stderr
from initlint.source import Positions, blame

Factory = Callable[[], nn.Module]
Feed = Callable[[nn.Module], Inputs | None]


@dataclass(frozen=True, slots=True)
class Construction:
    """A built model and what its build told. Without a record (the model existed before) most is empty."""

    model: nn.Module
    provenance: Mapping[str, Provenance]  # by first name, parameters and buffers
    modules: tuple[ModuleRecord, ...] = ()
    lost_writes: tuple[LostWrite, ...] = ()
    member_tests: tuple[MemberTest, ...] = ()
    unregistered: tuple[Unregistered, ...] = ()
    ties: tuple[Tie, ...] = ()
    statements: Mapping[Site, Statement] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    recorded: bool = True  # the build was watched
    build: Factory | None = None
    inputs: Inputs | None = None  # those that gave lazy layers their shapes


def construct(
    load: Callable[[], Factory],
    *,
    seed: int,
    enter: Callable[[str], None] = lambda stage: None,
    feed: Feed = lambda model: None,
) -> Construction:
    """Import the target with `load()`, build it, and read the record. `enter` hears "construct" begin.

    Lazy layers get the shapes that they would have after a forward of what `feed` finds for the model.
    Raises TargetError of stage "import" or "build". Generators and the determinism flag are restored.
    """
    questions = Questions()
    recorder = Recorder(questions.paused)
    try:
        return _construct(load, recorder, questions, seed, enter, feed)
    finally:
        recorder.close()


def _construct(
    load: Callable[[], Factory],
    recorder: Recorder,
    questions: Questions,
    seed: int,
    enter: Callable[[str], None],
    feed: Feed,
) -> Construction:
    with seeded(seed), stdout_to_stderr(), poisoned() as is_poisoned:
        start = time.perf_counter()
        with _told("import"), recorder:
            build = load()
        imported = time.perf_counter()
        enter("construct")
        with _told("build"), recorder, questions:
            seed_generators(seed)
            model = build()
            if not isinstance(model, nn.Module):
                raise TypeError(f"the target returned {_described(model)}, not a torch.nn.Module")
            if (reason := fault(model)) is not None:
                raise TypeError(reason)
        inputs = feed(model) if undecided(model) else None
        if inputs is not None:
            calls = first_calls(model, inputs)
            with _told("build"), recorder:
                decide(calls)
        built = time.perf_counter()
        filled = is_poisoned()
    read = _read(model, build, recorder, questions, filled, imported - start, built - imported)
    return replace(read, inputs=inputs)


def _read(
    model: nn.Module,
    build: Factory,
    recorder: Recorder,
    questions: Questions,
    filled: bool,
    imported: float,
    built: float,
) -> Construction:
    start = time.perf_counter()
    positions = Positions()
    reading = Reading(recorder, positions, filled)
    modules = tuple(model.named_modules(remove_duplicate=False))
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    seen = Build(model, modules, tensors, recorder, positions, questions.ran)
    records = module_records(seen)
    found = hidden(model)
    lines = {path: record.construction for record in records for path in record.paths}
    valued = [tensor for tensor in tensors.values() if not is_lazy(tensor)]
    recorded = not valued or any(map(reading.known, valued))
    provenance = reading.provenances(tensors, lines)
    tied = ties(seen, provenance)
    strays = [tensor for item in found for tensor in item.tensors]
    return Construction(
        model=model,
        provenance=provenance,
        modules=records,
        lost_writes=lost_writes(reading, modules, tensors, strays, tied) if recorded else (),
        member_tests=member_tests(questions.asked, modules, tensors, provenance, positions),
        unregistered=unregistered(seen, found, reading.strays(strays)),
        ties=tied,
        statements=statements(records, provenance.values()),
        seconds={"import": imported, "construct": built + time.perf_counter() - start},
        recorded=recorded,
        build=build,
    )


def _described(value: object) -> str:
    return "a class" if isinstance(value, type) else f"an object of type {type(value).__name__}"


@contextlib.contextmanager
def poisoned() -> Iterator[Callable[[], bool]]:
    """Fill uninitialised memory with NaN (integers: their maximum); yields whether that still holds."""
    deterministic: Any = torch.utils.deterministic
    mode = torch.get_deterministic_debug_mode()
    filling = deterministic.fill_uninitialized_memory
    torch.set_deterministic_debug_mode("warn" if mode == 0 else mode)
    deterministic.fill_uninitialized_memory = True
    try:
        yield (lambda: torch.get_deterministic_debug_mode() > 0 and deterministic.fill_uninitialized_memory)
    finally:
        deterministic.fill_uninitialized_memory = filling
        torch.set_deterministic_debug_mode(mode)


@contextlib.contextmanager
def _told(stage: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a TargetError that names the user's line."""
    try:
        yield
    except BaseException as error:
        raise blame(stage, error) from error
