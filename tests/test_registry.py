"""Rules: where they come from, which of them are selected, and how they are configured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from initlint import ConfigError, Evidence, PackError, Rule, registry
from initlint.finding import Finding
from initlint.registry import Catalogue, Selection

RULE = '''\
from initlint import Example, Rule


class {name}(Rule):
    """Something odd about a weight."""

    code = "{code}"
    name = "{slug}"
    severity = "warning"
    examples = ()
    ratio: float = 2.0  #: times the expected value
    strict: bool = False

    def check(self, model):
        yield self.finding("weight", f"ratio {{self.ratio}}", severity="error")
'''
Pack = Callable[..., None]


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pack]:
    """Installs a pack of rules: a real package with a real entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = set(sys.modules)

    def install(distribution: str, **files: str) -> None:
        package = tmp_path / distribution.replace("-", "_")
        package.mkdir()
        (package / "__init__.py").write_text("")
        for name, text in files.items():
            (package / f"{name}.py").write_text(text)
        metadata = tmp_path / f"{package.name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[{registry.GROUP}]\nextra = {package.name}\n")

    yield install
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture(scope="module")
def builtin() -> Catalogue:
    return registry.load()


# ---------------------------------------------------------------- packs


def test_builtin_rules_come_through_the_entry_point(builtin: Catalogue) -> None:
    assert {"IL101", "IL105", "IL301"} <= {rule.code for rule in builtin.rules}
    assert {rule.__module__.partition(".")[0] for rule in builtin.rules} == {"initlint_rules"}
    assert [rule.code for rule in builtin.rules] == sorted(rule.code for rule in builtin.rules)


def test_a_pack_stands_beside_the_builtin_rules(pack: Pack, builtin: Catalogue) -> None:
    base = "from initlint import Rule\n\nclass _Base(Rule):\n    pass\n"
    pack("my-pack", first=RULE.format(name="Odd", code="MY1", slug="odd-weight"), shared=base)
    codes = [rule.code for rule in registry.load().rules]
    assert set(codes) - {rule.code for rule in builtin.rules} == {"MY1"}


def test_removed_rules_are_remembered(pack: Pack) -> None:
    pack("my-pack", __init__='removed = {"MY7": "MY1 says more", "old-name": "now odd-weight"}\n')
    catalogue = registry.load()
    with pytest.raises(ConfigError, match="--select: rule MY7 was removed: MY1 says more"):
        catalogue.select([Selection("--", ("MY7",))])
    with pytest.raises(ConfigError, match="rule old-name was removed: now odd-weight"):
        catalogue.find("old-name")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_module\n", "cannot be imported: .*no_such_module"),
        ("raise SystemError('no licence')\n", "cannot be imported: .*SystemError: no licence"),
        (RULE.format(name="Odd", code="my1", slug="odd-weight"), "Odd has no code of the form"),
        (RULE.format(name="Odd", code="MY1", slug="Odd weight"), "Odd has no name of the form"),
        (RULE.format(name="Odd", code="MY1", slug="odd").replace('"warning"', '"bad"'), "has no severity"),
        (RULE.format(name="Odd", code="MY1", slug="odd").replace('"""', "#"), "has no docstring"),
    ],
)
def test_broken_packs_name_the_distribution(source: str, says: str, pack: Pack) -> None:
    pack("my-pack", broken=source)
    with pytest.raises(PackError, match=f"rule pack 'extra' of my-pack .*{says}"):
        registry.load()


@pytest.mark.parametrize(
    ("code", "slug", "what"),
    [("IL101", "mine", "code IL101"), ("MY1", "constant-weight", "name constant-weight")],
)
def test_two_rules_of_one_code_or_name(code: str, slug: str, what: str, pack: Pack) -> None:
    pack("my-pack", twice=RULE.format(name="Odd", code=code, slug=slug))
    with pytest.raises(PackError, match=f"{what} is defined twice: .*my-pack") as raised:
        registry.load()
    assert "of initlint" in str(raised.value)


def test_no_rules_at_all() -> None:
    with pytest.raises(PackError, match="no rules are installed"):
        registry.load("no.such.group")


# ---------------------------------------------------------------- selecting


def rule(code: str, name: str) -> type[Rule]:
    return type(name, (Rule,), {"code": code, "name": name, "severity": "error"})


CATALOGUE = Catalogue(
    (rule("IL101", "equal"), rule("IL102", "copied"), rule("IL201", "wide"), rule("XY1", "extra")), {}
)


def chosen(*places: Selection) -> str:
    return " ".join(found.code for found in CATALOGUE.select(places))


@pytest.mark.parametrize(
    ("place", "codes"),
    [
        (Selection("--"), "IL101 IL102 IL201 XY1"),
        (Selection("--", ("ALL",)), "IL101 IL102 IL201 XY1"),
        (Selection("--", ("IL101",)), "IL101"),
        (Selection("--", ("equal", "XY")), "IL101 XY1"),
        (Selection("--", ("IL",)), "IL101 IL102 IL201"),
        (Selection("--", ("IL1",), (), ("IL101",)), "IL102"),
        (Selection("--", ("IL101",), (), ("IL1",)), "IL101"),
        (Selection("--", ("equal",), (), ("IL1",)), "IL101"),
        (Selection("--", ("IL1",), (), ("IL1",)), ""),
        (Selection("--", ("IL101",), (), ("equal",)), ""),
        (Selection("--", ("IL2",), ("IL102",)), "IL102 IL201"),
        (Selection("--", (), ("IL102",)), "IL102"),
        (Selection("--", None, (), ("ALL",)), ""),
        (Selection("--", None, ("IL1",), ("ALL",)), "IL101 IL102"),
        (Selection("--", None, (), ("IL",)), "XY1"),
    ],
)
def test_the_longest_selector_decides(place: Selection, codes: str) -> None:
    assert chosen(place) == codes


def test_later_places_override() -> None:
    file = Selection("file.", ("IL1",), (), ("IL101",))
    assert chosen(file) == "IL102"
    assert chosen(file, Selection("--", ("IL2",))) == "IL201"
    assert chosen(file, Selection("--", ("ALL",))) == "IL102 IL201 XY1"
    assert chosen(file, Selection("--", ("IL101",))) == "IL101"
    assert chosen(file, Selection("--", None, ("XY1",))) == "IL102 XY1"
    assert chosen(file, Selection("--", None, ("equal",))) == "IL101 IL102"
    assert chosen(file, Selection("--", None, (), ("IL102",))) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("IL999", "unknown rule 'IL999'"),
        ("il101", "unknown rule 'il101'; did you mean IL101?"),
        ("eqaul", "unknown rule 'eqaul'; did you mean equal?"),
        ("all", "unknown rule 'all'; did you mean ALL?"),
        ("Q", "unknown rule 'Q'; --list-rules shows all rules"),
        ("", "unknown rule ''"),
        ("equ", "unknown rule 'equ'"),
    ],
)
def test_unknown_selectors(text: str, says: str) -> None:
    for place, key in (
        (Selection("--", (text,)), "--select"),
        (Selection("--", None, (text,)), "--extend-select"),
        (
            Selection("pyproject.toml: tool.initlint.", None, (), (text,)),
            "pyproject.toml: tool.initlint.ignore",
        ),
    ):
        with pytest.raises(ConfigError) as raised:
            CATALOGUE.select([place])
        assert str(raised.value).startswith(f"{key}: {says}")


# ---------------------------------------------------------------- configuring


@pytest.fixture
def odd(pack: Pack) -> type[Rule]:
    pack("my-pack", first=RULE.format(name="Odd", code="MY1", slug="odd-weight"))
    return registry.load().find("MY1")


def found(rule: Rule) -> Finding:
    return next(iter(rule.check(Evidence())))


def test_options_and_severity(odd: type[Rule]) -> None:
    assert found(registry.configured(odd, {}, None, "")).severity == "error"
    rule = registry.configured(odd, {"ratio": 3, "strict": True}, "note", "")
    assert found(rule).severity == "note"
    assert found(rule).message == "ratio 3"
    assert found(odd()).message == "ratio 2.0"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("ration", 1.0, "at: rule odd-weight has no option 'ration'; did you mean ratio?"),
        ("zzz", 1.0, "at: rule odd-weight has no option 'zzz'; its options are severity, ratio, strict"),
        ("ratio", "high", "at.ratio: must be float, not 'high'"),
        ("ratio", True, "at.ratio: must be float, not True"),
        ("strict", 1, "at.strict: must be bool, not 1"),
    ],
)
def test_wrong_options(key: str, value: float | str | bool, says: str, odd: type[Rule]) -> None:
    with pytest.raises(ConfigError) as raised:
        registry.configured(odd, {key: value}, None, "at")
    assert str(raised.value) == says
