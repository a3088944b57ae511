import pytest

from asgipipe.errors import SettingsError
from asgipipe.settings import DeploymentSettings, environment_layer, resolve


def settings(**environ: str) -> DeploymentSettings:
    return resolve([environment_layer(environ)]).settings


def refused(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings(**environ)
    return [str(issue) for issue in caught.value.issues]


def test_other_variables_are_left_alone() -> None:
    """Variables without the prefix, and those of asgipipe that are no settings, set nothing."""
    layer = environment_layer(
        {"PATH": "x", "_ASGIPIPE_COMPLETE": "x", "ASGIPIPE_DEBUG": "1", "ASGIPIPE_SPECIFICATION": "/x"}
    )
    assert layer.values == {}
    assert layer.issues == ()


def test_sections_and_their_fields() -> None:
    """A section given as JSON and single fields of it go together; the field wins."""
    found = settings(
        ASGIPIPE_CORS__ALLOW_ORIGINS="https://b.example",
        ASGIPIPE_CORS='{"allow_origins": ["https://a.example"], "allow_methods": ["GET"]}',
    )
    assert found.cors.allow_origins == ["https://b.example"]
    assert found.cors.allow_methods == ["GET"]


def test_a_field_of_what_is_no_section() -> None:
    """A section that is not a mapping is refused, whatever is given for its fields."""
    assert refused(ASGIPIPE_CORS="[]", ASGIPIPE_CORS__ALLOW_ORIGINS="*") == [
        "environment ASGIPIPE_CORS: cors: expected a mapping"
    ]


def test_kubernetes_service_links() -> None:
    """The variables Kubernetes makes for a service named `asgipipe...` are no mistakes, a wish for a port is one."""
    links = {
        "ASGIPIPE_SERVICE_HOST": "10.0.0.1",
        "ASGIPIPE_SERVICE_PORT": "80",
        "ASGIPIPE_SERVICE_PORT_HTTP": "80",
        "ASGIPIPE_PORT": "tcp://10.0.0.1:80",
        "ASGIPIPE_PORT_80_TCP": "tcp://10.0.0.1:80",
        "ASGIPIPE_PORT_80_TCP_PROTO": "tcp",
        "ASGIPIPE_WEATHER_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert settings(**links) == DeploymentSettings()
    assert refused(ASGIPIPE_PORT="80") == [
        "environment ASGIPIPE_PORT: no such setting; did you mean ASGIPIPE_UVICORN_PORT?"
    ]


def test_names_are_upper_case() -> None:
    """A variable in lower case would be overlooked, so it is refused with the right name."""
    assert refused(asgipipe_uvicorn_port="80") == [
        "environment asgipipe_uvicorn_port: no such setting; did you mean ASGIPIPE_UVICORN_PORT?"
    ]


def test_free_dictionaries_are_one_value() -> None:
    """What is inside a free dictionary has no variable of its own."""
    (message,) = refused(ASGIPIPE_UVICORN_KWARGS__PROXY_HEADERS="true")
    assert "no such setting; did you mean ASGIPIPE_UVICORN_KWARGS?" in message


@pytest.mark.parametrize("text", ["", " ", "x", "8000x", "1.5", "null", "true", "[1]"])
def test_no_number(text: str) -> None:
    """A port that is no number is refused by the name of its variable."""
    assert refused(ASGIPIPE_UVICORN_PORT=text) == [
        "environment ASGIPIPE_UVICORN_PORT: uvicorn_port: expected a whole number"
    ]


def test_bytes_that_are_no_text() -> None:
    """A value that is not UTF-8, which Python passes on as lone surrogates, is refused."""
    assert len(refused(ASGIPIPE_APP_TITLE="\udcff")) == 1
