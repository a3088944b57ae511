import sys
from pathlib import Path
from types import ModuleType

import pytest

from asgipipe import Pipeline, pipeline
from asgipipe.client.targets import target_of
from asgipipe.errors import DefinitionError


@pipeline
def flow(value: int) -> int:
    return value


def plain(value: int) -> int:
    return value


changed = flow.with_options(name="changed")
served = Pipeline(plain)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        pytest.param(flow, "flow", id="decorated"),
        pytest.param(changed, "changed", id="a copy under a name of its own"),
        pytest.param(served, "served", id="made of a function"),
        pytest.param(Pipeline(plain), "plain", id="made of a function that has a name"),
    ],
)
def test_what_can_be_found_again(given: "Pipeline[..., object]", name: str) -> None:
    """A pipeline that its module has under a name is that module's attribute."""
    assert target_of(given) == f"{__name__}:{name}"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(flow.with_options(name="nowhere"), id="a copy without a name"),
        pytest.param(Pipeline(plain).with_options(capture="full"), id="a function with options"),
        pytest.param(Pipeline(lambda: 1), id="lambda"),
    ],
)
def test_what_cannot_be_found_again(given: "Pipeline[..., object]") -> None:
    """What no module has under a name is refused, with the way out."""
    with pytest.raises(DefinitionError, match=r"cannot be imported by the process that is to serve it.*assign"):
        target_of(given)


def test_functions_in_functions() -> None:
    """A pipeline inside a function is refused, however it is called."""

    @pipeline
    def flow(value: int) -> int:
        return value

    with pytest.raises(DefinitionError, match="cannot be imported"):
        target_of(flow)


def test_scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pipeline of the script that runs is found by its file, that of `python -m` by its module, else not at all."""
    main = ModuleType("__main__")
    main.flow = flow.with_options()  # type: ignore[attr-defined]
    main.flow.__module__ = "__main__"
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(DefinitionError, match=r"a session that has no file.*write it to a module"):
        target_of(main.flow)
    main.__file__ = str(tmp_path / "script.py")
    assert target_of(main.flow) == f"{tmp_path / 'script.py'}:flow"
    main.copy = changed.with_options(name="copy")  # type: ignore[attr-defined]  # of another module's
    assert target_of(main.copy) == f"{tmp_path / 'script.py'}:copy"
    main.__spec__ = type("Spec", (), {"name": "package.module"})()  # type: ignore[assignment]
    assert target_of(main.flow) == "package.module:flow"
