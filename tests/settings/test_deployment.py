import functools
from pathlib import Path
from unittest import TestCase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from asgipipe.settings import DeploymentDefaultEndpoints, DeploymentSettings, EndpointSpec, built_in_paths
from asgipipe.settings.fields import Shape, every_field, kind


def messages(**values: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        DeploymentSettings.model_validate(values)
    return [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in caught.value.errors()]


def test_defaults_are_valid() -> None:
    """What stands as a default passes the validation that given values go through."""
    defaults = DeploymentSettings()
    assert DeploymentSettings.model_validate(defaults.model_dump()) == defaults
    assert DeploymentSettings.model_validate_json(defaults.model_dump_json()) == defaults


def test_defaults_are_not_shared() -> None:
    """Changing a list or dictionary of one settings object leaves the next one alone."""
    DeploymentSettings().uvicorn_kwargs["x"] = 1
    DeploymentSettings().cors.allow_origins.append("https://a.example")
    assert DeploymentSettings().uvicorn_kwargs == {}
    assert DeploymentSettings().cors.allow_origins == []


def test_settings_are_frozen() -> None:
    """A field cannot be changed once the settings exist."""
    with pytest.raises(ValidationError):
        DeploymentSettings().uvicorn_port = 1  # type: ignore[misc]


def test_every_field_is_described() -> None:
    """Each field has a description that is a sentence, and a number says its unit."""
    for path, field in every_field():
        assert field.description, path
        assert field.description.endswith("."), path
        if isinstance(field.default, float):
            assert "Seconds" in field.description, path


@pytest.mark.parametrize("name", [n for (n, *rest), f in every_field() if not rest and type(f.default) in (int, float)])
@pytest.mark.parametrize("value", [-1, -0.5, float("inf"), float("nan"), 10**12, True, False, "x", "", "nan", "1e999"])
def test_numbers_are_bounded(name: str, value: object) -> None:
    """A number that is negative, endless, too large, or no number at all is refused."""
    (message,) = messages(**{name: value})
    assert message.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"uvicorn_reload": True, "uvicorn_workers": 2}, "uvicorn_reload"),
        ({"uvicorn_reload": True, "server": "gunicorn"}, "uvicorn_reload"),
        ({"auth_key": "k", "generate_auth_key": True}, "generate_auth_key"),
        ({"cors": {"allow_origins": ["*"], "allow_credentials": True}}, "cors.allow_credentials"),
        ({"startup_hook_kwargs": {"x": 1}}, "startup_hook_kwargs"),
        ({"shutdown_hook_kwargs": {"x": 1}}, "shutdown_hook_kwargs"),
        ({"docs_url_path": "/x", "redoc_url_path": "/x"}, "redoc_url_path"),
        ({"docs_url_path": "/api/info", "api_url_path": "/api"}, "info_url_path"),
        ({"uvicorn_kwargs": {"port": 1}}, "uvicorn_kwargs"),
        ({"uvicorn_kwargs": {"app": "x"}}, "uvicorn_kwargs"),
    ],
)
def test_combinations_that_cannot_be_right(values: dict[str, object], field: str) -> None:
    """Settings that contradict each other are refused at the field that is to be changed."""
    (message,) = messages(**values)
    assert message.startswith(f"{field}: ")


def test_contradictions_are_reported_together() -> None:
    """Several contradictions are one error."""
    assert len(messages(uvicorn_reload=True, uvicorn_workers=2, auth_key="k", generate_auth_key=True)) == 2


def test_an_endpoint_that_is_off_takes_no_path() -> None:
    """Two built-in endpoints may have one path as long as only one of them is served."""
    settings = DeploymentSettings.model_validate(
        {"docs_url_path": "/x", "redoc_url_path": "/x", "include_default_endpoints": ["DOCS", "API"]}
    )
    assert built_in_paths(settings)["docs_url_path"] == "/x"


def test_built_in_paths() -> None:
    """The API is below both prefixes, the documents are below the root prefix, and what is off has no path."""
    settings = DeploymentSettings(
        root_url_path="/r", api_url_path="/v1", include_default_endpoints=DeploymentDefaultEndpoints.HEALTH
    )
    assert built_in_paths(settings) == {"health_url_path": "/r/v1/health", "ready_url_path": "/r/v1/ready"}
    documents = DeploymentSettings(root_url_path="/r", include_default_endpoints=DeploymentDefaultEndpoints.REDOC)
    assert built_in_paths(documents) == {"redoc_url_path": "/r/redoc", "openapi_url_path": "/r/openapi.json"}


def test_repeated_custom_endpoints() -> None:
    """Two endpoints with one method and path are refused, also when their parameters are only named differently."""
    first, second = ({"path": f"/a/{{{name}}}", "handler": "m:f"} for name in "xy")
    assert messages(custom_endpoints=[first, second]) == [
        "custom_endpoints.1: an endpoint before it answers POST /a/{y} already"
    ]
    assert DeploymentSettings.model_validate({"custom_endpoints": [first, {**second, "method": "get"}]})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0", "localhost", "my-host.example", "0.0.0.0"])
def test_hosts(host: str) -> None:
    """Addresses and names are taken as they are."""
    assert DeploymentSettings(uvicorn_host=host).uvicorn_host == host


@pytest.mark.parametrize("host", ["", "http://localhost", "[::1]", "a b", "localhost/", "ü", "a\n"])
def test_wrong_hosts(host: str) -> None:
    """What is no address is refused."""
    assert messages(uvicorn_host=host)


def test_dashboard_folder() -> None:
    """The folder may be a Path; a NUL character in it is refused."""
    settings = DeploymentSettings.model_validate({"dashboard_files_path": Path("web", "dist")})
    assert settings.dashboard_files_path == "web/dist"
    assert messages(dashboard_files_path="a\0b")


def test_objects_stay_objects_and_become_import_strings_in_json() -> None:
    """Code given as objects is kept as it is and shown as `module:qualname`."""

    class Extension:
        def install(self) -> None: ...

    hook = functools.partial(print, "x")
    settings = DeploymentSettings.model_validate(
        {
            "startup_hook": test_settings_are_frozen,
            "shutdown_hook": hook,
            "custom_endpoints": [EndpointSpec(path="/x", handler=TestCase.setUp)],
            "app_extensions": [{"extension": Extension()}],
        }
    )
    assert settings.startup_hook is test_settings_are_frozen
    assert settings.model_dump()["shutdown_hook"] is hook
    shown = settings.model_dump(mode="json")
    assert shown["startup_hook"] == f"{__name__}:test_settings_are_frozen"
    assert shown["shutdown_hook"] == "functools:partial"
    assert shown["custom_endpoints"][0]["handler"] == "unittest.case:TestCase.setUp"
    assert shown["custom_endpoints"][0]["method"] == "POST"
    assert shown["app_extensions"][0]["extension"].endswith("Extension")


@given(st.sets(st.sampled_from([".".join(path) for path, f in every_field() if kind(f).shape is Shape.BOOLEAN])))
def test_errors_hide_their_input(names: set[str]) -> None:
    """The text of a validation error from the constructor has no value in it."""
    values: dict[str, object] = {"auth_key": ["canary-1 "], "app_title": ["canary-2"]}
    values |= {name: "canary-3" for name in names if "." not in name}
    with pytest.raises(ValidationError) as caught:
        DeploymentSettings.model_validate(values)
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(caught.value)
