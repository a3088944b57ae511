import json

from asgipipe.settings import python_layer, resolve
from asgipipe.settings.explanation import explain
from asgipipe.settings.fields import Shape, every_field, kind

CANARY = "canary-7f3a"


def test_every_field_is_explained() -> None:
    """There is one row for each field, sections taken apart, in the order of the model."""
    rows = explain(resolve([]))
    expected = [".".join(path) for path, field in every_field() if kind(field).shape is not Shape.SECTION]
    assert [row.path for row in rows] == expected
    assert {row.origin for row in rows} == {"default"}


def test_values_and_origins() -> None:
    """A row holds the value as JSON and the place it is from."""
    rows = {row.path: row for row in explain(resolve([python_layer({"cors": {"allow_origins": ["*"]}}, "decorator")]))}
    assert (rows["cors.allow_origins"].value, rows["cors.allow_origins"].origin) == (["*"], "decorator")
    assert rows["log_level"].value == "INFO"
    assert rows["include_default_endpoints"].value == "ALL"


def test_secrets_are_hidden() -> None:
    """Keys, and texts in free dictionaries whose name sounds like a secret, are masked at any depth."""
    values = {
        "auth_key": [CANARY, CANARY],
        "app_kwargs": {"debug": "shown", "nested": [{"DB_PASSWORD": CANARY}], "apiKey": CANARY, "tokens": [CANARY]},
        "uvicorn_kwargs": {"ssl_keyfile_password": CANARY},
        "custom_endpoints": [{"path": "/x", "handler": "a:b", "init_kwargs": {"client_secret": CANARY}}],
    }
    text = json.dumps([row.value for row in explain(resolve([python_layer(values, "decorator")]))])
    assert CANARY not in text
    assert "shown" in text


def test_objects_without_json_are_shown_by_class() -> None:
    """Python values of every kind can be explained; nothing of an object but its class appears."""
    values = {"app_kwargs": {"thing": object(), "nan": float("nan")}, "startup_hook": print}
    rows = {row.path: row.value for row in explain(resolve([python_layer(values, "decorator")]))}
    assert rows["app_kwargs"] == {"thing": "<object>", "nan": None}
    assert rows["startup_hook"] == "builtins:print"
