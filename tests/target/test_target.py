"""Reading and loading targets: every form, and one clear sentence for each thing that can be wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from initlint import target
from initlint.errors import TargetError
from initlint.target.spec import Spec, parse

MODEL = """\
from torch import nn

net = nn.Linear(4, 2)
size = 3

class Net(nn.Linear):
    def __init__(self, width, depth=2):
        super().__init__(width, depth)

class Small(nn.Linear):
    def __init__(self):
        super().__init__(3, 5)

class Factory:
    inner = net

    @staticmethod
    def make(width=7):
        return nn.Linear(width, 1)

def build(width=4, sizes=(1, 2), name=""):
    return nn.Sequential(nn.Linear(width, sizes[0]))

def nothing():
    pass

def pair():
    return net, net

def fails():
    raise ValueError("bad width")

def inputs():
    return (1, 2)

def broken_inputs():
    raise RuntimeError("no data")
"""


@pytest.fixture(autouse=True)
def _imports() -> Iterator[None]:
    """Every test imports afresh."""
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shapes.py").write_text(MODEL)
    return tmp_path


def line_of(text: str) -> int:
    return next(i for i, line in enumerate(MODEL.splitlines(), 1) if line.startswith(text))


def build(text: str, folder: Path) -> nn.Module:
    return target.load(parse(text), str(folder))()


# ---------------------------------------------------------------- the text


@pytest.mark.parametrize(
    ("text", "source", "attributes"),
    [
        ("m:build", "m", ("build",)),
        ("pkg.mod:Net.make", "pkg.mod", ("Net", "make")),
        ("a/b/c.py:Net", "a/b/c.py", ("Net",)),
        ("../up.py:Net", "../up.py", ("Net",)),
        (r"C:\models\net.py:build", r"C:\models\net.py", ("build",)),
        ("C:/models/net.py:build", "C:/models/net.py", ("build",)),
        ("models (1).py:build", "models (1).py", ("build",)),
        ("größe.py:netz", "größe.py", ("netz",)),
    ],
)
def test_names(text: str, source: str, attributes: tuple[str, ...]) -> None:
    assert parse(text) == Spec(text, source, attributes)


def test_call_with_literals() -> None:
    spec = parse("""timm:create_model("resnet18", [1, -2], {"a": 1.5}, num_classes=10, text="x:y(z)")""")
    assert (spec.source, spec.attributes, spec.called) == ("timm", ("create_model",), True)
    assert spec.arguments == ("resnet18", [1, -2], {"a": 1.5})
    assert spec.keywords == {"num_classes": 10, "text": "x:y(z)"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("m", "names no attribute"),
        ("m:", "names no attribute"),
        (":build", "names no module"),
        ("m:build\nimport os", "line break"),
        ("m:\x1b[2J", "cannot be printed"),
        ("m:a b", "no name and no call"),
        ("m:1", "no name and no call"),
        ("m:f()()", "no name and no call"),
        ("m:f(x)", "argument x"),
        ("m:f(open('secret'))", "argument open('secret')"),
        ("m:f(__import__('os').system('true'))", "only literals"),
        ("m:f(*[1])", "argument *[1]"),
        ("m:f(**{'a': 1})", "unpacks **{'a': 1}"),
        ("m:f(a=y)", "argument y"),
        ("m:" + "x" * 5000, "characters long"),
        ("m:f(" + "(" * 2000 + ")" * 2000 + ")", "no name and no call"),
    ],
)
def test_unusable_text(text: str, says: str) -> None:
    with pytest.raises(TargetError) as raised:
        parse(text)
    assert raised.value.stage == "import"
    assert says in raised.value.message
    assert "\n" not in raised.value.message
    assert len(raised.value.message) < 300


def test_a_file_alone_is_told_what_it_defines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(TargetError, match=r"reads shapes.py:NAME, where NAME is one of \w+, \w+, "):
        parse("shapes.py")


# ---------------------------------------------------------------- what a name leads to


@pytest.mark.parametrize(
    ("text", "kind", "features"),
    [
        ("shapes:net", "Linear", 4),
        ("shapes:Small", "Small", 3),
        ("shapes:Net(6)", "Net", 6),
        ("shapes:Net(6, depth=9)", "Net", 6),
        ("shapes:Factory.make", "Linear", 7),
        ("shapes:Factory.make(width=2)", "Linear", 2),
        ("shapes:Factory.inner", "Linear", 4),
        ("shapes.py:Small", "Small", 3),
        ("./shapes.py:Small()", "Small", 3),
    ],
)
def test_forms(text: str, kind: str, features: int, folder: Path) -> None:
    model = build(text, folder)
    assert type(model).__name__ == kind
    assert isinstance(model, nn.Linear)
    assert model.in_features == features


def test_nothing_runs_before_the_build(folder: Path) -> None:
    factory = target.load(parse("shapes:fails"), str(folder))
    with pytest.raises(ValueError, match="bad width"):
        factory()


@pytest.mark.parametrize(
    ("text", "stage", "kind", "says", "line"),
    [
        ("shape:net", "import", "ModuleNotFoundError", "no module 'shape'; did you mean shapes:net?", None),
        ("shapes.net:x", "import", "ModuleNotFoundError", "no module 'shapes.net'", None),
        ("no/such.py:net", "import", "FileNotFoundError", "no file no/such.py", None),
        ("shape.py:net", "import", "FileNotFoundError", "did you mean shapes.py:net?", None),
        ("./shapes:net", "import", "FileNotFoundError", "did you mean ./shapes.py:net?", None),
        ("my-model:net", "import", "ImportError", "neither the name of a module nor the path", None),
        (".shapes:net", "import", "ImportError", "neither the name of a module nor the path", None),
        ("notes.txt:net", "import", "ValueError", "not a Python file", None),
        ("sub/:net", "import", "IsADirectoryError", "is a folder", None),
        ("shapes:bild", "import", "AttributeError", "has no attribute 'bild'; did you mean build?", None),
        ("shapes:small", "import", "AttributeError", "did you mean Small?", None),
        ("shapes:Factory.mak", "import", "AttributeError", "shapes:Factory has no attribute 'mak'", None),
        ("shapes:size", "build", "TypeError", "size is an int, not an nn.Module", None),
        ("shapes:size(1)", "build", "TypeError", "size is an int", None),
        ("shapes:nothing", "build", "TypeError", "nothing returned None, not an nn.Module", "def nothing():"),
        (
            "shapes:pair",
            "build",
            "TypeError",
            "pair returned a tuple, not an nn.Module; name a function that returns its item 0 alone",
            "def pair():",
        ),
        ("shapes:Factory", "build", "TypeError", "Factory returned a Factory", "class Factory:"),
        (
            "shapes:Net",
            "build",
            "TypeError",
            "Net needs arguments: width; give literals",
            "class Net(nn.Linear):",
        ),
        ("shapes:build(1, 2, 3, 4)", "build", "TypeError", "too many positional arguments", "def build"),
        ("shapes:build(wide=1)", "build", "TypeError", "unexpected keyword argument 'wide'", "def build"),
    ],
)
def test_errors(text: str, stage: str, kind: str, says: str, line: str | None, folder: Path) -> None:
    (folder / "notes.txt").write_text("x")
    (folder / "sub").mkdir()
    with pytest.raises(TargetError) as raised:
        build(text, folder)
    error = raised.value
    assert (error.stage, error.kind) == (stage, kind)
    assert says in error.message
    assert "\n" not in error.message
    if line is not None:
        assert (error.file, error.line) == (str(folder / "shapes.py"), line_of(line))


# ---------------------------------------------------------------- modules that fail when imported


@pytest.mark.parametrize(
    ("source", "kind", "says", "line"),
    [
        ("x = 1\nraise KeyError('width')\n", "KeyError", "'width'", 2),
        ("import json\njson.loads('{')\n", "JSONDecodeError", "Expecting property name", 2),
        ("import no_such_thing\n", "ModuleNotFoundError", "no_such_thing", 1),
        ("x = 1\ndef f(:\n", "SyntaxError", "invalid syntax", 2),
        ("from torch import nn\nnn.Linear('a', 2)\n", "TypeError", "", 2),
    ],
)
def test_import_that_fails(source: str, kind: str, says: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(source)
    for text in ("failing:build", "failing.py:build"):
        with pytest.raises(TargetError) as raised:
            build(text, tmp_path)
        error = raised.value
        assert (error.stage, error.kind) == ("import", kind)
        assert says in error.message
        assert (error.file, error.line) == (str(tmp_path / "failing.py"), line)


def test_exception_without_readable_text(tmp_path: Path) -> None:
    (tmp_path / "rude.py").write_text(
        "class Rude(Exception):\n    def __str__(self):\n        raise ValueError\n\nraise Rude\n"
    )
    with pytest.raises(TargetError) as raised:
        build("rude:x", tmp_path)
    assert (raised.value.kind, raised.value.line) == ("Rude", 5)
    assert raised.value.message == "an exception whose text cannot be read"


# ---------------------------------------------------------------- files, siblings, packages


def test_file_imports_its_siblings_and_keeps_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "sizes.py").write_text("WIDTH = 11\n")
    (folder / "wide.py").write_text(
        "from torch import nn\nfrom sizes import WIDTH\n\ndef build():\n    return nn.Linear(WIDTH, 1)\n"
    )
    model = build("deep/wide.py:build", tmp_path)
    assert isinstance(model, nn.Linear)
    assert model.in_features == 11
    assert sys.modules["wide"].__file__ == str(folder / "wide.py")


def test_file_in_a_package_has_relative_imports(tmp_path: Path) -> None:
    package = tmp_path / "src" / "mypkg" / "nets"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package.parent / "sizes.py").write_text("WIDTH = 13\n")
    (package / "wide.py").write_text(
        "from torch import nn\nfrom ..sizes import WIDTH\n\ndef build():\n    return nn.Linear(WIDTH, 1)\n"
    )
    model = build("src/mypkg/nets/wide.py:build", tmp_path)
    assert isinstance(model, nn.Linear)
    assert model.in_features == 13
    assert "mypkg.nets.wide" in sys.modules


@pytest.mark.parametrize("name", ["random.py", "my-model.py", "torch.py", "initlint.py", "a.b.py", "1.py"])
def test_file_never_replaces_another_module(name: str, tmp_path: Path) -> None:
    import random

    import torch

    (tmp_path / name).write_text("from torch import nn\n\ndef build():\n    return nn.Linear(17, 1)\n")
    model = build(f"{name}:build", tmp_path)
    assert isinstance(model, nn.Linear)
    assert model.in_features == 17
    assert sys.modules["random"] is random
    assert sys.modules["torch"] is torch
    assert build(f"./{name}:build", tmp_path).__class__ is nn.Linear


def test_two_files_of_one_name(tmp_path: Path) -> None:
    for folder, width in (("a", 3), ("b", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.py").write_text(
            f"from torch import nn\n\ndef build():\n    return nn.Linear({width}, 1)\n"
        )
    models = [build(f"{folder}/model.py:build", tmp_path) for folder in "ab"]
    assert [m.in_features for m in models if isinstance(m, nn.Linear)] == [3, 5]


def test_module_and_file_are_one(folder: Path) -> None:
    by_file = target.module_of(parse("shapes.py:net"), str(folder))
    assert target.module_of(parse("shapes:net"), str(folder)) is by_file
    assert target.module_of(parse("./shapes.py:net"), str(folder)) is by_file


# ---------------------------------------------------------------- inputs and losses


def test_inputs_and_losses(folder: Path) -> None:
    assert target.example("shapes:inputs", str(folder)) == (1, 2)
    assert target.example("shapes:size", str(folder)) == 3
    assert isinstance(target.criterion("torch.nn:MSELoss", str(folder)), nn.MSELoss)
    assert isinstance(target.criterion("torch.nn:MSELoss(reduction='sum')", str(folder)), nn.MSELoss)
    assert target.criterion("torch.nn.functional:mse_loss", str(folder)) is nn.functional.mse_loss


def test_errors_of_inputs_and_losses(folder: Path) -> None:
    with pytest.raises(TargetError) as raised:
        target.example("shapes:broken_inputs", str(folder))
    assert (raised.value.stage, raised.value.line) == ("inputs", line_of('    raise RuntimeError("no data")'))
    with pytest.raises(TargetError) as raised:
        target.example("shapes:input", str(folder))
    assert raised.value.stage == "inputs"
    assert "did you mean inputs?" in raised.value.message
    with pytest.raises(TargetError) as raised:
        target.criterion("shapes:size", str(folder))
    assert (raised.value.stage, raised.value.kind) == ("loss", "TypeError")
