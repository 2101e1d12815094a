"""Imports what a target names, and calls it."""

from __future__ import annotations

import copy
import difflib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from initlint.errors import TargetError
from initlint.source import blame, shortened
from initlint.target.spec import Spec, parse, unusable

if TYPE_CHECKING:
    from torch import nn


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
        raise unusable(spec.text, f"names {spec.source}, which is not a Python file")
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
