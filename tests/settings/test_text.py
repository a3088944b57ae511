import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgipipe.settings import CORSConfig, DeploymentSettings
from asgipipe.settings.text import load, parse

FIELDS = {**DeploymentSettings.model_fields, **CORSConfig.model_fields}


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("app_title", " as it is ", " as it is "),
        ("app_title", "null", None),
        ("root_url_path", "null", "null"),
        ("auth_key", "null", "null"),
        ("auth_key", "a,b", "a,b"),
        ("auth_key", '["a", "b"]', ["a", "b"]),
        ("auth_key", "[a", "[a"),
        ("auth_key", '[["a"]]', [["a"]]),
        ("allow_origins", "", []),
        ("allow_origins", "a, b", ["a", "b"]),
        ("allow_origins", '["a,b"]', ["a,b"]),
        ("include_default_endpoints", "docs, invoke", ["docs", "invoke"]),
        ("include_default_endpoints", '["docs"]', ["docs"]),
        ("include_default_endpoints", "Off", False),
        ("include_default_endpoints", "yes", True),
        ("include_default_endpoints", "12", 12),
        ("include_default_endpoints", "", []),
        ("uvicorn_kwargs", '{"a": null}', {"a": None}),
        ("custom_endpoints", "[]", []),
    ],
)
def test_texts(field: str, text: str, value: object) -> None:
    """A text is read by what its field holds."""
    assert parse(FIELDS[field], text) == value


@pytest.mark.parametrize("text", ["", "{", "a: 1", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 100_000, "Infinity"])
@pytest.mark.parametrize("field", ["uvicorn_kwargs", "custom_endpoints", "cors"])
def test_wrong_json(field: str, text: str) -> None:
    """What is not JSON as RFC 8259 has it is refused with an example, and not repeated."""
    with pytest.raises(ValueError, match=r"expected JSON, an? .* such as"):
        parse(FIELDS[field], text)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text makes any field fail in another way than by ValueError."""
    for field in FIELDS.values():
        with contextlib.suppress(ValueError):
            parse(field, text)


@given(st.dictionaries(st.text(), st.lists(st.integers() | st.text() | st.none())))
def test_json_is_read(value: object) -> None:
    """Right JSON is read as it is."""
    assert load(json.dumps(value)) == value
