import pytest
from pydantic import ValidationError

from asgipipe.settings import SecureHeadersConfig


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((word, True) for word in (True, "true", "Yes", "ON", "1")),
        *((word, False) for word in (False, "FALSE", "no", "off", "0")),
        ("DENY", "DENY"),
        ("max-age=1; x", "max-age=1; x"),
    ],
)
def test_values(value: object, expected: object) -> None:
    """Words for true and false switch a header; every other text is its value."""
    found = SecureHeadersConfig.model_validate({"hsts": value}).hsts
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("value", ["", " a", "a ", "a\r\nset-cookie: x", "ü", "a\0", "x" * 5000, 1, 0, None, ["a"]])
def test_wrong_values(value: object) -> None:
    """What could break an answer's head, or is no text, is refused."""
    with pytest.raises(ValidationError):
        SecureHeadersConfig.model_validate({"hsts": value})
