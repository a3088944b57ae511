import pytest
from pydantic import ValidationError

from asgipipe.settings import CORSConfig


def test_names_are_normalised() -> None:
    """Origins and headers become lower case and methods upper case, as browsers send them."""
    config = CORSConfig(allow_origins=["HTTPS://App.Example:8443"], allow_methods=["get"], allow_headers=["X-Team"])
    assert (config.allow_origins, config.allow_methods, config.allow_headers) == (
        ["https://app.example:8443"],
        ["GET"],
        ["x-team"],
    )


@pytest.mark.parametrize("origin", ["*", "http://localhost:3000", "http://[::1]:3000", "capacitor://localhost"])
def test_origins(origin: str) -> None:
    """An origin is a scheme, a host and perhaps a port."""
    assert CORSConfig(allow_origins=[origin]).allow_origins == [origin]


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "app.example",
        "https://",
        "https://a.example/",
        "https://a/b",
        "https://*.a",
        "null",
        "https://u@a",
        "a://b,c://d",
    ],
)
def test_wrong_origins(origin: str) -> None:
    """What no browser sends as an origin is refused instead of matching nothing."""
    with pytest.raises(ValidationError, match="an origin reads"):
        CORSConfig(allow_origins=[origin])


@pytest.mark.parametrize("origin", ["https://a.example:443", "http://a.example:80"])
def test_default_ports(origin: str) -> None:
    """A port that browsers leave out is refused."""
    with pytest.raises(ValidationError, match="leave the port"):
        CORSConfig(allow_origins=[origin])


@pytest.mark.parametrize("field", ["allow_methods", "allow_headers"])
@pytest.mark.parametrize("name", ["", "a b", "x:y", "ü", "a\r\nb", "x" * 200])
def test_wrong_names(field: str, name: str) -> None:
    """Methods and headers are names as RFC 9110 has them."""
    with pytest.raises(ValidationError, match="name of an HTTP method or header"):
        CORSConfig.model_validate({field: [name]})
