"""What is linted: reads `module:attr` and `path/to/file.py:attr`, and imports what they name."""

from __future__ import annotations

import ast
import copy
import difflib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from initlint.errors import TargetError
from initlint.texts import tree

if TYPE_CHECKING:
    from torch import nn

MOST_NAMES = 8  #: of a file's definitions
LONGEST = 4096  #: characters of a target; Linux' own limit of a path


@dataclass(frozen=True, slots=True)
class Target:
    """One model to lint, and how.

    `name` is what was asked for. `model`, `inputs` and `loss` are `module:attr` or `file.py:attr`;
    files are relative to `folder`, which is importable, and then the working directory.
    """

    name: str
    model: str
    folder: str
    inputs: str | None = None
    input_shape: str | None = None
    loss: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    seed: int = 0
    probe: bool = True


@dataclass(frozen=True, slots=True)
class Spec:
    """A target's text, taken apart: where to import, which attribute, and the literal arguments of a call."""

    text: str
    source: str
    attributes: tuple[str, ...]
    called: bool = False
    arguments: tuple[object, ...] = ()
    keywords: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """The source is a path, not the name of a module."""
        return self.source.endswith(".py") or "/" in self.source or os.sep in self.source

    @property
    def attribute(self) -> str:
        """The dotted attribute."""
        return ".".join(self.attributes)


# ---------------------------------------------------------------- reading the text


def parse(text: str) -> Spec:
    """Read `module:attr`, `file.py:attr`, `module:attr.attr` or `module:attr(literal, key=literal)`."""
    if len(text) > LONGEST:
        raise _unusable(text, f"is {len(text)} characters long, more than {LONGEST}")
    if not text.strip():
        raise _unusable(text, "is empty; a target reads module:attr or file.py:attr")
    if not text.isprintable():
        raise _unusable(text, "holds a line break or another character that cannot be printed")
    for match in re.finditer(":", text):
        expression = _expression(text[match.end() :])
        if expression is not None:
            return _spec(text, text[: match.start()], expression)
    source, colon, attribute = text.rpartition(":")
    if not colon or os.path.exists(text):
        named = f"names no attribute; a target reads {shortened(text)}:NAME"
        raise _unusable(text, f"{named}{_definitions(text)}")
    if not attribute:
        raise _unusable(text, f"names no attribute after the colon; a target reads {shortened(source)}:NAME")
    raise _unusable(
        text,
        f"has {shortened(attribute)!r} after the colon, which is no name and no call with literal arguments",
    )


def _definitions(file: str) -> str:
    """The functions and classes of a file, as the end of a sentence."""
    parsed = tree(os.path.abspath(file)) if os.path.isfile(file) else None
    defined = [
        node.name
        for node in (parsed.body if parsed is not None else ())
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    shown = ", ".join([*defined[:MOST_NAMES], *(["…"] if len(defined) > MOST_NAMES else [])])
    return f", where NAME is one of {shown}" if len(defined) > 1 else f", with {shown}" if shown else ""


def _expression(text: str) -> ast.Name | ast.Attribute | ast.Call | None:
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    called = body.func if isinstance(body, ast.Call) else body
    while isinstance(called, ast.Attribute):
        called = called.value
    if isinstance(called, ast.Name) and isinstance(body, (ast.Name, ast.Attribute, ast.Call)):
        return body
    return None


def _spec(text: str, source: str, body: ast.Name | ast.Attribute | ast.Call) -> Spec:
    if not source.strip():
        raise _unusable(text, "names no module before the colon; a target reads module:attr or file.py:attr")
    reference = body.func if isinstance(body, ast.Call) else body
    attributes = tuple(ast.unparse(reference).split("."))
    if not isinstance(body, ast.Call):
        return Spec(text, source.strip(), attributes)
    arguments = tuple(_literal(text, node) for node in body.args)
    keywords = {}
    for keyword in body.keywords:
        if keyword.arg is None:
            raise _unusable(
                text,
                f"unpacks **{shortened(ast.unparse(keyword.value))}; only literal arguments can be given",
            )
        keywords[keyword.arg] = _literal(text, keyword.value)
    return Spec(text, source.strip(), attributes, True, arguments, keywords)


def _literal(text: str, node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        argument = shortened(ast.unparse(node))
        raise _unusable(
            text, f"has the argument {argument}; only literals can be given (numbers, strings, lists, …)"
        ) from None


def _unusable(text: str, why: str) -> TargetError:
    return TargetError("import", "ValueError", f"the target {shortened(text)!r} {why}")


def shortened(text: str, width: int = 100) -> str:
    """The text with its middle left out where it is longer than `width`."""
    return text if len(text) <= width else f"{text[: width // 2]}…{text[-width // 2 + 1 :]}"


# ---------------------------------------------------------------- importing the module


def importable(folder: str) -> None:
    """Put a folder in front of the import path, once."""
    with suppress(ValueError):
        sys.path.remove(folder)
    sys.path.insert(0, folder)


def module_of(spec: Spec, folder: str) -> ModuleType:
    """Import the module or file that the spec names; raises TargetError of stage "import"."""
    importable(folder)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    path = Path(folder, spec.source).expanduser()
    if not spec.is_file and not path.is_file():
        return _import(spec.source, spec)
    if not path.is_file():
        raise _missing_file(spec, path)
    if path.suffix != ".py":
        raise _unusable(spec.text, f"names {spec.source}, which is not a Python file")
    return _import_file(path.resolve(), spec)


def _missing_file(spec: Spec, path: Path) -> TargetError:
    if path.is_dir():
        return TargetError("import", "IsADirectoryError", f"{spec.source} is a folder, not a .py file")
    hint = ""
    if Path(f"{path}.py").is_file():
        hint = f"; did you mean {spec.source}.py:{spec.attribute}?"
    elif path.parent.is_dir():
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".py"]
        close = suggested(path.name, names)
        hint = f"; did you mean {Path(spec.source).with_name(close)}:{spec.attribute}?" if close else ""
    return TargetError("import", "FileNotFoundError", f"there is no file {spec.source}{hint}")


def _import(name: str, spec: Spec) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        message = f"{shortened(name)!r} is neither the name of a module nor the path of a .py file"
        raise TargetError("import", "ImportError", message)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(missing + "."):
            raise blame("import", error) from error
        hint = _module_hint(name, missing, spec)
        message = f"there is no module {missing!r}{hint}"
        raise TargetError("import", "ModuleNotFoundError", message) from error
    except Exception as error:
        raise blame("import", error) from error


def _module_hint(name: str, missing: str, spec: Spec) -> str:
    as_file = Path(*name.split(".")).with_suffix(".py")
    if as_file.is_file():
        return f"; did you mean {as_file}:{spec.attribute}?"
    parent, _, last = missing.rpartition(".")
    path = getattr(sys.modules.get(parent), "__path__", []) if parent else None
    close = suggested(last, (module.name for module in pkgutil.iter_modules(path)))
    if not close:
        return ""
    suggestion = f"{parent}.{close}" if parent else close
    return f"; did you mean {suggestion}{name.removeprefix(missing)}:{spec.attribute}?"


def _import_file(path: Path, spec: Spec) -> ModuleType:
    """Import a file under its stem or, in a package, its full name, so that relative imports work."""
    root, names = path.parent, [path.stem]
    while (root / "__init__.py").is_file() and root.name.isidentifier():
        names.insert(0, root.name)
        root = root.parent
    if names[-1] == "__init__" and len(names) > 1:
        names.pop()
    importable(str(root))
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = ".".join(names)
    known = sys.modules.get(name)
    if known is not None and _file_of(known) == path:
        return known
    if known is None and all(part.isidentifier() for part in names):
        found = _import(name, spec)
        if _file_of(found) == path:
            return found
    return _execute(path, f"_target_{path.stem}".replace(".", "_"))


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


def _execute(path: Path, name: str) -> ModuleType:
    """Import a file under a name of its own: its stem belongs to another module, or is no identifier."""
    known = sys.modules.get(name)
    if known is not None and _file_of(known) == path:
        return known
    located = importlib.util.spec_from_file_location(name, path)
    if located is None or located.loader is None:
        raise TargetError("import", "ImportError", f"{path} cannot be imported", str(path))
    module = importlib.util.module_from_spec(located)
    sys.modules[name] = module
    try:
        located.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise blame("import", error) from error
    return module


# ---------------------------------------------------------------- the attribute and the model


def attribute_of(spec: Spec, folder: str) -> object:
    """Import and look the attribute up; raises TargetError of stage "import"."""
    found: object = module_of(spec, folder)
    holder = spec.source
    for name in spec.attributes:
        try:
            found = getattr(found, name)
        except AttributeError as error:
            if error.name not in (None, name):
                raise blame("import", error) from error
            close = suggested(name, dir(found))
            hint = f"; did you mean {close}?" if close else ""
            message = f"{holder} has no attribute {name!r}{hint}"
            file = getattr(found, "__file__", None)
            raise TargetError(
                "import", "AttributeError", message, file if isinstance(file, str) else None
            ) from error
        except Exception as error:
            raise blame("import", error) from error
        holder = f"{holder}:{name}" if holder == spec.source else f"{holder}.{name}"
    return found


def load(spec: Spec, folder: str) -> Callable[[], nn.Module]:
    """Import what the spec names and return the call that builds the model.

    Raises TargetError of stage "import"; the call raises one of stage "build" when what it builds is
    no nn.Module. Whatever else the user's code raises passes through.
    """
    from torch import nn

    found = attribute_of(spec, folder)
    if isinstance(found, nn.Module) and not spec.called:
        return lambda: found
    if not callable(found):
        raise TargetError(
            "build",
            "TypeError",
            f"{spec.attribute} is {_a(found)}, not an nn.Module, a class or a callable that returns one",
            *_defined(found),
        )
    _check_arguments(spec, found)

    def build() -> nn.Module:
        # A build may change what it is given, and the model may be built again.
        model = found(*copy.deepcopy(spec.arguments), **copy.deepcopy(spec.keywords))
        if not isinstance(model, nn.Module):
            raise TargetError(
                "build",
                "TypeError",
                f"{spec.attribute} returned {_a(model)}, not an nn.Module{_held(model)}",
                *_defined(found),
            )
        return model

    return build


def example(text: str, folder: str) -> object:
    """The inputs that `module:attr` names; a function is called. Raises TargetError of stage "inputs"."""
    found = _named(text, folder, "inputs")
    return _call(found, "inputs") if inspect.isroutine(found) else found


def criterion(text: str, folder: str) -> Callable[..., Any]:
    """The loss that `module:attr` names; a class is instantiated. Raises TargetError of stage "loss"."""
    found = _named(text, folder, "loss")
    if isinstance(found, type):
        found = _call(found, "loss")
    if not callable(found):
        raise TargetError("loss", "TypeError", f"the loss {text} is {_a(found)}, which cannot be called")
    return found


def _named(text: str, folder: str, stage: str) -> object:
    try:
        spec = parse(text)
        found = attribute_of(spec, folder)
    except TargetError as error:
        raise TargetError(stage, error.kind, error.message, error.file, error.line) from error
    if not spec.called:
        return found
    return _call(found, stage, *spec.arguments, **spec.keywords)


def _call(found: object, stage: str, *arguments: object, **keywords: object) -> object:
    if not callable(found):
        raise TargetError(stage, "TypeError", f"{_a(found)} cannot be called")
    try:
        return found(*arguments, **keywords)
    except Exception as error:
        raise blame(stage, error) from error


def _check_arguments(spec: Spec, found: Callable[..., object]) -> None:
    """Say which arguments a call lacks, before it is made; a callable without signature is simply tried."""
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*spec.arguments, **spec.keywords)
    except TypeError as error:
        bound = signature.bind_partial() if spec.called else None
        needed = [
            p.name
            for p in signature.parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if bound is None and needed:
            call = ", ".join(f"{name}=…" for name in needed)
            message = (
                f"{spec.attribute} needs arguments: {', '.join(needed)}; give literals, as in "
                f"'{spec.source}:{spec.attribute}({call})', or name a function that builds the model"
            )
        else:
            message = f"{spec.attribute}{signature} cannot be called so: {error}"
        raise TargetError("build", "TypeError", message, *_defined(found)) from None


def _defined(found: object) -> tuple[str | None, int | None]:
    """File and line of a class's or function's definition."""
    try:
        source = inspect.unwrap(found) if callable(found) else type(found)
        return inspect.getsourcefile(source), inspect.getsourcelines(source)[1]
    except (TypeError, OSError, ValueError):
        return None, None


def _held(found: object) -> str:
    """Where in a container the model is, as the end of a sentence."""
    from torch import nn

    items: Iterable[tuple[object, object]] = ()
    if isinstance(found, (tuple, list)):
        items = enumerate(found)
    elif isinstance(found, Mapping):
        items = found.items()
    place = next((place for place, item in items if isinstance(item, nn.Module)), None)
    return "" if place is None else f"; name a function that returns its item {place!r} alone"


def _a(found: object) -> str:
    if found is None:
        return "None"
    if isinstance(found, ModuleType):
        return f"the module {found.__name__}"
    if isinstance(found, type):
        return f"the class {found.__qualname__}"
    name = type(found).__qualname__
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


def suggested(name: str, names: Iterable[str]) -> str | None:
    """The most similar name, if any is similar; public names only, unless a private one was asked for."""
    candidates = [n for n in names if name.startswith("_") or not n.startswith("_")]
    folded = {n.lower(): n for n in reversed(candidates)}
    close = difflib.get_close_matches(name.lower(), folded, n=1)
    return folded[close[0]] if close else None


# ---------------------------------------------------------------- blaming the user's line


def blame(stage: str, error: BaseException) -> TargetError:
    """What the user's code raised, as a TargetError that points at the user's own line."""
    if isinstance(error, TargetError):
        return error
    if isinstance(error, SyntaxError) and error.filename:
        return TargetError(stage, type(error).__name__, error.msg, error.filename, error.lineno)
    file, line = own_line(frames(error.__traceback__))
    return TargetError(stage, type(error).__name__, _message(error), file, line)


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "it called exit()" if error.code is None else f"it called exit({error.code!r})"
    try:
        text = str(error)
    except Exception:  # the __str__ of a user's exception may raise as well
        return "an exception whose text cannot be read"
    if isinstance(error, KeyError):
        text = f"key {text}"
    return shortened(" ".join(text.split()), 600) or "no message"


def frames(traceback: TracebackType | None) -> list[tuple[str, int]]:
    """File and line of every frame, outermost first."""
    found = []
    while traceback is not None:
        found.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def own_line(lines: Iterable[tuple[str, int]]) -> tuple[str | None, int | None]:
    """The innermost line of the user's own code, else of a library that is neither torch nor initlint."""
    ranked = [(rank, line) for line in lines if (rank := _foreign(line[0])) < 2]
    if not ranked:
        return None, None
    nearest = min(rank for rank, _ in ranked)
    return [line for rank, line in ranked if rank == nearest][-1]


def _foreign(file: str) -> int:
    """0 for the user's own file, 1 for an installed library, 2 for torch, initlint and the interpreter."""
    if file.startswith("<"):
        return 2
    if file.startswith(_ENGINE) or re.search(r"[\\/]site-packages[\\/]torch[\\/]", file):
        return 2
    return int(file.startswith(_INSTALLED))


_ENGINE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_INSTALLED = tuple(
    path + os.sep
    for key in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(key))
)
