import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asgipipe import Deployment
from asgipipe.errors import DefinitionError, SourceError
from tests.reliability.conftest import SERVED
from tests.reliability.sites import FLAVORS, subject_of
from tests.servers.command import command

Write = Callable[[str], None]

WRONG = {
    "missing": None,
    "nameless": "",
    "a number": "target = 3\n",
    "a class of nothing": "class target:\n    pass\n",
    "exiting": "raise SystemExit(1)\n",
}
PLACES: dict[str, dict[str, object]] = {
    "endpoint": {"custom_endpoints": [{"path": "/x", "method": "GET", "handler": "wrong:target"}]},
    "native endpoint": {"custom_endpoints": [{"path": "/x", "handler": "wrong:target", "native": True}]},
    "middleware": {"custom_middlewares": [{"middleware": "wrong:target"}]},
    "native middleware": {"custom_middlewares": [{"middleware": "wrong:target", "native": True}]},
    "inner middleware": {
        "custom_middlewares": [
            {"middleware": "wrong:target", "order": 2},
            {"middleware": "wrong:target", "native": True, "order": 1},
        ]
    },
    "extension": {"app_extensions": [{"extension": "wrong:target"}]},
    "service": {"deployment_service_class": "wrong:target"},
    "hook": {"startup_hook": "wrong:target"},
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write the module `wrong`, which is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield (tmp_path / "wrong.py").write_text
    sys.modules.pop("wrong", None)


def nothing() -> None: ...


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_wrong_import_string_is_one_line(write: Write, flavor: str, place: str, wrong: str) -> None:
    """Row 39: wherever it stands, and whatever is wrong with it, every app runner says so in one line that names it."""
    if (place, wrong) in {("hook", "a class of nothing"), ("endpoint", "a class of nothing")}:
        pytest.skip("a class without arguments is a hook, and a builder of endpoints, too")
    pytest.importorskip(flavor)
    text = WRONG[wrong]
    if text is not None:
        write(text)
    settings = {"deployment_app_runner_flavor": flavor, **PLACES[place]}
    with pytest.raises((SourceError, DefinitionError)) as caught:
        Deployment(nothing, settings, layers=())
    message = str(caught.value)
    assert "wrong:target" in message
    assert len(message.splitlines()) == 1, message
    assert len(message) < 500


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_app_runner_is_one_line(write: Write, wrong: str) -> None:
    """Row 39: so is an app runner by import string; a name that nobody has is answered with those there are."""
    text = WRONG[wrong]
    if text is not None:
        write(text)
    with pytest.raises((SourceError, DefinitionError), match=r"\A[^\n]*wrong:target[^\n]*\Z"):
        Deployment(nothing, {"deployment_app_runner_flavor": "wrong:target"}, layers=())
    with pytest.raises(DefinitionError, match=r"\A[^\n]*'fastapy'; did you mean 'fastapi'\?\Z"):
        Deployment(nothing, {"deployment_app_runner_flavor": "fastapy"}, layers=())


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_host_is_told_the_same(write: Write, flavor: str) -> None:
    """Row 39: what is embedded in a host with a wrong string fails when it is embedded, with the same line."""
    pytest.importorskip(flavor)
    subject = subject_of(flavor)
    for place in (subject.mount, subject.include):
        with pytest.raises((SourceError, DefinitionError), match=r"\A[^\n]*wrong:target[^\n]*\Z"):
            place({"/x": Deployment(nothing, PLACES["native endpoint"], layers=(), flavor=flavor)})


@pytest.mark.parametrize("flavor", FLAVORS)
def test_the_command_says_it_in_one_line(tmp_path: Path, flavor: str) -> None:
    """Row 39: `asgipipe serve` ends with a status that is not 0, and one line."""
    pytest.importorskip(flavor)
    chosen = ("--set", f"deployment_app_runner_flavor={flavor}")
    endpoints = ("--set", 'custom_endpoints=[{"path": "/x", "handler": "wrong:target", "native": true}]')
    with command("serve", SERVED / "load.py:brief", *chosen, *endpoints, folder=tmp_path) as running:
        assert running.status() == 2
        said = [line for line in running.output.splitlines() if line]
    assert len(said) == 1, said
    assert "wrong:target" in said[0]
