import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asgipipe import pipeline
from asgipipe.errors import DefinitionError, SourceError
from asgipipe.runners.deployment import Deployment
from asgipipe.sources import check, load

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write modules into a folder on the Python path; they are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)

    def write(name: str, text: str) -> None:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))

    yield write
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(
            getattr(sys.modules[name], "__file__", None) or getattr(sys.modules[name], "__path__", "")
        ):
            del sys.modules[name]


def refused(source: str) -> str:
    """Return the one line that says why an import string is refused; it names the string."""
    with pytest.raises(SourceError) as caught:
        load(source)
    message = str(caught.value)
    assert message.startswith(f"{source!r}: ")
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    "source", ["json:dumps", "json.dumps", "os.path:join", "os.path.join", "pathlib:Path.exists", "pathlib.Path.exists"]
)
def test_both_forms_lead_to_the_object(source: str) -> None:
    """`module:attribute` and `module.attribute` are equals, with nested attributes too."""
    found = load(source)
    assert callable(found)
    assert found.__name__ == source.replace(":", ".").rpartition(".")[2]


@pytest.mark.parametrize(
    "source",
    ["", "json", ":dumps", "json:", "json:dumps()", "a b:c", "a-b.c", "json:du mps", "a:b:c", "..", "a..b", "1.x"],
)
def test_what_has_not_the_form_is_refused_without_importing(source: str) -> None:
    """check() looks at the text alone."""
    with pytest.raises(SourceError) as caught:
        check(source)
    assert str(caught.value).startswith(f"{source!r}: ")
    refused(source)


def test_checking_imports_nothing() -> None:
    """A string of the right form passes, wherever it leads."""
    assert check("no.such.module:name") == "no.such.module:name"


def test_an_attribute_of_a_package_wins_over_nothing(write: Write) -> None:
    """In the dotted form the longest module is taken, then attributes: submodules need no import in the package."""
    write("house/__init__.py", "door = 'attribute'\n")
    write("house/room.py", "class Table:\n    @staticmethod\n    def lay(): ...\n")
    assert load("house.door") == "attribute"
    assert load("house.room.Table.lay") is load("house.room:Table.lay")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere_at_all:name", "there is no module named 'nowhere_at_all'"),
        ("nowhere.at.all:name", "there is no module named 'nowhere.at.all'"),
        ("nowhere_at_all.name", "there is no module named 'nowhere_at_all'"),
        ("json.nowhere:name", "there is no module named 'json.nowhere'"),
        ("json:nowhere", "'json' has no attribute 'nowhere'"),
        ("json.nowhere", "'json' has no attribute 'nowhere'"),
        ("json:dumps.nowhere", "'dumps' has no attribute 'nowhere'"),
        ("pathlib:Path.nowhere.deeper", "'Path' has no attribute 'nowhere'"),
    ],
)
def test_what_is_missing_is_named(source: str, reason: str) -> None:
    """A module that is not there, or an attribute, and of what; never a module that the string does not name."""
    assert reason in refused(source)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ValueError('not\\n\\ntoday')", "importing 'broken' raised ValueError: not today"),
        ("raise SystemExit(3)", "importing 'broken' raised SystemExit: 3"),
        ("import sys; sys.exit('bye')", "importing 'broken' raised SystemExit: bye"),
        ("raise BaseException", "importing 'broken' raised BaseException"),
        ("raise ExceptionGroup('many', [ValueError()])", "importing 'broken' raised ExceptionGroup: many"),
        ("import missing_dependency", "raised ModuleNotFoundError: No module named 'missing_dependency'"),
        ("from json import nowhere", "raised ImportError: cannot import name 'nowhere' from 'json'"),
        ("def broken(:\n", "importing 'broken' raised SyntaxError: "),
        ("def recurse(): recurse()\nrecurse()", "importing 'broken' raised RecursionError"),
        ("raise ValueError('x' * 10_000_000)", "importing 'broken' raised ValueError: xxx"),
        ("class Mute(Exception):\n    def __str__(self): return 1 / 0\nraise Mute", "importing 'broken' raised Mute"),
    ],
    ids=["error", "exit", "sys.exit", "base", "group", "dependency", "name", "syntax", "recursion", "long", "mute"],
)
@pytest.mark.parametrize("source", ["broken:name", "broken.name"])
def test_a_module_that_raises_is_one_line(write: Write, text: str, reason: str, source: str) -> None:
    """Whatever a module raises while it is imported, SystemExit too; the cause stays with the error."""
    write("broken.py", text)
    message = refused(source)
    assert reason in message
    assert len(message) < 500
    with pytest.raises(SourceError) as caught:
        load(source)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("source", ["shaky.inner:name", "shaky.inner.name"])
def test_a_package_that_raises_is_named(write: Write, source: str) -> None:
    """Also when only a module inside it was asked for."""
    write("shaky/__init__.py", "raise SystemExit('no')\n")
    write("shaky/inner.py", "name = 1\n")
    assert "importing 'shaky' raised SystemExit: no" in refused(source)


def test_an_interrupt_is_nobodys_mistake(write: Write) -> None:
    """Control-C while a module is imported ends the program, as anywhere else."""
    write("slow.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load("slow:name")


def test_a_circular_import_is_named_as_one(write: Write) -> None:
    """A module that asks for an attribute of a module which is still being imported is told so."""
    write("first.py", "import second\nname = 1\n")
    write("second.py", "from asgipipe.sources import load\nload('first:name')\n")
    message = refused("first:name")
    assert "'first' has no attribute 'name' yet: it is still being imported (a circular import)" in message


def test_an_error_inside_the_target_is_not_a_missing_attribute(write: Write) -> None:
    """A module's own `__getattr__` may raise what it likes: the line names the string all the same."""
    write("lazy.py", "def __getattr__(name):\n    raise RuntimeError('while looking')\n")
    assert "while looking" in refused("lazy:name")


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"startup_hook": "wrong:target"}, {}),
        ({"shutdown_hook": "wrong:target"}, {}),
        ({"deployment_service_class": "wrong:target"}, {}),
        ({"deployment_app_runner_flavor": "wrong:target"}, {}),
        ({"custom_endpoints": [{"path": "/x", "method": "GET", "handler": "wrong:target"}]}, {}),
        ({"custom_middlewares": [{"middleware": "wrong:target"}]}, {}),
        ({"app_extensions": [{"extension": "wrong:target"}]}, {}),
        ({}, {"on_init": "wrong:target"}),
        ({}, {"on_cleanup": "wrong:target"}),
        ({}, {"input_model": "wrong:target"}),
        ({}, {"output_model": "wrong:target"}),
    ],
    ids=lambda given: next(iter(given), ""),
)
@pytest.mark.parametrize(
    "text", [None, "", "target = 3\n", "raise SystemExit(1)\n"], ids=["module", "name", "kind", "exit"]
)
def test_a_wrong_import_string_in_any_place_is_one_line(
    write: Write, settings: dict[str, object], options: dict[str, str], text: str | None
) -> None:
    """Missing, without the attribute, not callable, or raising: an error of the user's that names the string."""
    if text is not None:
        write("wrong.py", text)

    def target() -> int:
        return 1

    served = pipeline(**options)(target)  # type: ignore[call-overload]  # one option, as a string
    with pytest.raises((SourceError, DefinitionError)) as caught:
        Deployment(served, settings, layers=())
    message = str(caught.value)
    assert "wrong:target" in message
    assert len(message.splitlines()) == 1
