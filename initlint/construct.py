"""Runs the user's code once, under a recorder: import, build, and where every value came from."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from initlint.discarded import lost_writes
from initlint.evidence import LostWrite, MemberTest, ModuleRecord, Provenance, Rebuild, Tie, Unregistered
from initlint.finding import Site
from initlint.hiding import hidden, unregistered
from initlint.inputs import Inputs
from initlint.lazy import decide, first_calls, undecided
from initlint.membertests import member_tests
from initlint.provenance import Reading
from initlint.questions import Questions
from initlint.recorder import Recorder
from initlint.sites import Positions, here, package
from initlint.soundness import fault
from initlint.structure import Build, module_records
from initlint.target import blame
from initlint.tying import ties

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
    build_site: Site | None = None
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
    with _generators(), _stdout_to_stderr(), _poisoned() as poisoned:
        start = time.perf_counter()
        with _told("import"), recorder:
            _seed(seed)
            build = load()
        imported = time.perf_counter()
        enter("construct")
        with _told("build"), recorder, questions:
            _seed(seed)
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
        filled = poisoned()
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
        build_site=_definition(build),
        seconds={"import": imported, "construct": built + time.perf_counter() - start},
        recorded=recorded,
        build=build,
    )


def _described(value: object) -> str:
    return "a class" if isinstance(value, type) else f"an object of type {type(value).__name__}"


def _definition(build: object) -> Site | None:
    """The line at which the target is defined."""
    while not hasattr(build, "__code__"):
        inner = getattr(build, "func", None) or getattr(build, "__wrapped__", None)
        if inner is None and isinstance(build, type):
            inner = vars(build).get("__init__")
        if inner is None:
            return None
        build = inner
    code = build.__code__
    return Site(
        os.path.abspath(code.co_filename), code.co_firstlineno, code.co_name, package(code.co_filename)
    )


# ---------------------------------------------------------------- surroundings


@contextlib.contextmanager
def _generators() -> Iterator[None]:
    """Leave the global generators of Python, NumPy and torch as they were."""
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    legacy = numpy.random.get_state() if numpy else None
    cuda: Any = torch.cuda
    devices = list(range(cuda.device_count())) if cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        if numpy and legacy is not None:
            numpy.random.set_state(legacy)


def _seed(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy:
        numpy.random.seed(seed % 2**32)


@contextlib.contextmanager
def _poisoned() -> Iterator[Callable[[], bool]]:
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
def _stdout_to_stderr() -> Iterator[None]:
    """Send what the user's code prints, from Python or from C, to stderr."""
    sys.stdout.flush()
    errors = sys.stderr
    with contextlib.redirect_stdout(errors):
        try:
            kept = os.dup(1)
        except OSError:  # no stdout at all
            yield
            return
        try:
            os.dup2(2, 1)
            yield
        finally:
            sys.stderr = errors
            errors.flush()
            os.dup2(kept, 1)
            os.close(kept)


@contextlib.contextmanager
def _told(stage: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a TargetError that names the user's line."""
    try:
        yield
    except BaseException as error:
        raise blame(stage, error) from error


# ---------------------------------------------------------------- building again


def rebuild(construction: Construction, *, seed: int) -> Rebuild | None:
    """Build again under torch's seed alone; if that differs, find out whose generator makes it so.

    None when the model cannot be built again: it existed before, or the second build fails.
    """
    if construction.build is None or not construction.recorded:
        return None
    with _generators(), _stdout_to_stderr(), _poisoned():
        try:
            return _compared(construction.model, construction.build, seed)
        except Exception:  # a factory may well work only once
            return None


def _compared(first: nn.Module, build: Factory, seed: int) -> Rebuild:
    second, seeds = _built(build, seed, ())
    if not _differing(first, second):
        return Rebuild((), "none")
    # The first build may have imported what draws when it is imported: only later ones are compared.
    reference, others = _built(build, seed, ("python", "numpy"))
    differing = _differing(reference, second)
    if not differing:
        return Rebuild((), "none")
    changed = (site for (site, one), (_, other) in zip(seeds, others, strict=False) if one != other)
    if (reseeded := next(changed, None)) is not None:
        return Rebuild(differing, "unseeded", reseeded)
    if _differing(reference, _built(build, seed, ("python", "numpy"))[0]):
        return Rebuild(differing, "unseeded")
    numpy = not _differing(reference, _built(build, seed, ("numpy",))[0])
    return Rebuild(differing, "numpy" if numpy else "python")


def _built(
    build: Factory, seed: int, seeded: tuple[Literal["python", "numpy"], ...]
) -> tuple[nn.Module, list[tuple[Site | None, int]]]:
    """A build with torch's generator and those in `seeded` seeded; and every seed that it gave to torch."""
    _seed(seed)
    if "python" not in seeded:
        random.seed()
    if "numpy" not in seeded and (numpy := sys.modules.get("numpy")):
        numpy.random.seed()
    seeds: list[tuple[Site | None, int]] = []
    originals = torch.manual_seed, torch.seed

    def manual_seed(seed: Any) -> torch.Generator:
        seeds.append((here(sys._getframe(1)), seed))
        return originals[0](seed)

    def new_seed() -> int:
        value = originals[1]()
        seeds.append((here(sys._getframe(1)), value))
        return value

    torch.manual_seed, torch.seed = manual_seed, new_seed
    try:
        return build(), seeds
    finally:
        torch.manual_seed, torch.seed = originals


def _differing(first: nn.Module, second: nn.Module) -> tuple[str, ...]:
    """Names of parameters and buffers whose values are not bit for bit the same."""
    other = dict(second.named_parameters()) | dict(second.named_buffers())
    return tuple(
        name
        for name, tensor in (*first.named_parameters(), *first.named_buffers())
        if name in other and not _same(tensor, other[name])
    )


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    if is_lazy(first) or is_lazy(second) or first.is_meta or second.is_meta:
        return True
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    with torch.no_grad():
        a, b = first.detach().cpu(), second.detach().cpu()
        try:
            return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())
        except (NotImplementedError, RuntimeError):  # no comparison for this layout or dtype
            return True
