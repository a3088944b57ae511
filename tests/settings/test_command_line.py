import pytest

from asgipipe.errors import SettingsError
from asgipipe.settings import command_line_layer, resolve


def test_places_are_flags() -> None:
    """The origin of a value is the flag: the short one where there is one, `--set` inside a section."""
    found = resolve([command_line_layer({"uvicorn_port": "1", "app_title": "x", "cors.allow_origins": "*"})])
    assert found.origins["uvicorn_port"] == "--port"
    assert found.origins["app_title"] == "--app-title"
    assert found.origins["cors.allow_origins"] == "--set cors.allow_origins"


def test_python_values_are_taken_as_they_are() -> None:
    """A value that is not a text needs no parsing."""
    settings = resolve([command_line_layer({"uvicorn_reload": True, "cors.allow_origins": ["*"]})]).settings
    assert settings.uvicorn_reload
    assert settings.cors.allow_origins == ["*"]


@pytest.mark.parametrize("path", ["", "x", "cors.x", "cors.allow_origins.0", "uvicorn_kwargs.x", "cors..x"])
def test_unknown_paths(path: str) -> None:
    """A path that leads to no field is refused."""
    with pytest.raises(SettingsError) as caught:
        resolve([command_line_layer({path: "1"})])
    (issue,) = caught.value.issues
    assert (issue.place, issue.message) == (f"--set {path}", "unknown field")
