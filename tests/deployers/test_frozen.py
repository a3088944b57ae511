import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from asgipipe.deployers.frozen import FrozenSettings, freeze, settings_text
from asgipipe.errors import SettingsError
from asgipipe.settings import (
    DeploymentSettings,
    Layer,
    PipelineSection,
    YamlFile,
    command_line_layer,
    environment_layer,
    python_layer,
    resolve,
    yaml_file,
)
from asgipipe.settings.document import read
from asgipipe.settings.environment import environment_name
from tests.settings.samples import COMPANIONS, SAMPLES, nested

NOTHING = PipelineSection()

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def written(folder: Path, text: str) -> YamlFile:
    file = folder / "settings.yaml"
    file.write_text(text, encoding="utf-8")
    return yaml_file(file)


def thawed(folder: Path, frozen: FrozenSettings, code: Mapping[str, object] | None = None) -> DeploymentSettings:
    """Return what a service has that is given the file and the variables, over what its code says."""
    file = written(folder, settings_text(frozen.settings))
    return resolve([python_layer(code, "decorator"), file.deployment, environment_layer(frozen.secrets)]).settings


@pytest.mark.parametrize("path", SAMPLES)
@pytest.mark.parametrize("way", ["file", "environment", "command line"])
def test_every_field_means_the_same(path: str, way: str, tmp_path: Path) -> None:
    """What a field is set to, in a file, a variable or a flag, it is set to by the frozen settings."""
    value, text = SAMPLES[path]
    environ: dict[str, str] = {}
    if way == "file":
        layer = written(tmp_path, json.dumps({"settings": {"deployment": nested(path, value)}})).deployment
    elif way == "environment":
        environ = {environment_name(tuple(path.split("."))): text}
        layer = environment_layer(environ)
    else:
        layer = command_line_layer({path: text})
    code = COMPANIONS.get(path)
    direct = resolve([python_layer(code, "decorator"), layer]).settings
    assert direct != DeploymentSettings()
    if path == "auth_key":
        direct = direct.model_copy(update={"auth_key": None})
    frozen = freeze([layer], NOTHING, environ)
    assert thawed(tmp_path, frozen, code) == direct
    assert not frozen.secrets


def test_the_top_layer_wins(tmp_path: Path) -> None:
    """The command line goes before the environment, that before the file, and sections merge field by field."""
    file = written(
        tmp_path,
        """
        settings:
          deployment:
            uvicorn_port: 1
            log_level: debug
            cors: {allow_origins: [https://a.example], allow_methods: [GET], allow_headers: [x-a]}
        capture: {mode: sampled, rate: 0.5, seed: 3}
        """,
    )
    environ = {"ASGIPIPE_UVICORN_PORT": "2", "ASGIPIPE_LOG_FORMAT": "json", "ASGIPIPE_CORS__ALLOW_METHODS": "put"}
    above = command_line_layer({"uvicorn_port": "3", "cors.allow_headers": "x-b", "capture.rate": "0.25"})
    layers = [file.deployment, environment_layer(environ), above]
    frozen = freeze(layers, NOTHING, environ)
    settings = thawed(tmp_path, frozen)
    assert settings == resolve(layers).settings
    assert (settings.uvicorn_port, settings.cors.allow_methods, settings.capture.rate) == (3, ["PUT"], 0.25)


@pytest.mark.parametrize(
    ("code", "given_settings"),
    [
        ({"capture": {"mode": "sampled", "rate": 0.5}}, {"capture": "full"}),
        ({"capture": {"mode": "sampled", "rate": 0.5}}, {"capture": {"rate": 0.25}}),
        ({"capture": "full"}, {}),
        ({"cors": {"allow_methods": ["GET"]}}, {"cors": {"allow_origins": ["https://a.example"]}}),
        ({"auth_key": "of-the-code", "app_title": "A"}, {"auth_key": None, "app_title": None}),
        ({"custom_endpoints": [{"path": "/a", "handler": len}]}, {"uvicorn_port": 9000}),
    ],
)
def test_the_code_lies_below(code: dict[str, object], given_settings: dict[str, object], tmp_path: Path) -> None:
    """What the code says is not frozen: it merges with the frozen settings as it did with those they are made of."""
    layers = [
        python_layer(code, "decorator"),
        written(tmp_path, json.dumps({"settings": {"deployment": given_settings}})).deployment,
    ]
    direct = resolve(layers).settings
    assert thawed(tmp_path, freeze(layers[1:], NOTHING, {}), code) == direct


@pytest.mark.parametrize("code", [{}, {"capture": "metadata"}])
def test_the_default_policy_stays_the_lowest(code: dict[str, object], tmp_path: Path) -> None:
    """ASGIPIPE_CAPTURE_DEFAULT is for pipelines without a policy of their own, after freezing, too."""
    environ = {"ASGIPIPE_CAPTURE_DEFAULT": "full"}
    layer = environment_layer(environ)
    frozen = freeze([layer], NOTHING, environ)
    assert frozen.secrets == environ
    assert thawed(tmp_path, frozen, code) == resolve([python_layer(code, "decorator"), layer]).settings


SECRETS: dict[str, object] = {
    "auth_key": ["canary-1", "canary-2"],
    "store_url": "postgresql://ada:canary-3@db.example/jobs?sslpassword=canary-4",
    "uvicorn_kwargs": {"ssl_keyfile": "key.pem", "ssl_keyfile_password": "canary-5"},
    "custom_middlewares": [{"middleware": "shop.web:Signed", "init_kwargs": {"secret": "canary-6"}}],
    "job_queue_kwargs": {"dsn": "canary-7"},
    "gunicorn_kwargs": {"api_key": "canary-8"},
}


@pytest.mark.parametrize("way", ["file", "command line"])
def test_secrets_go_their_own_way(way: str, tmp_path: Path) -> None:
    """No secret stands in frozen settings or in a representation; those that are no keys go into variables."""
    if way == "file":
        layer = written(tmp_path, json.dumps({"settings": {"deployment": SECRETS}})).deployment
    else:
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in SECRETS.items()}
        layer = command_line_layer(texts)
    frozen = freeze([layer], NOTHING, {})
    assert "canary" not in json.dumps(frozen.settings)
    assert "canary" not in repr(frozen)
    assert frozen.secrets.keys() == {environment_name((name,)) for name in SECRETS if name != "auth_key"}
    direct = resolve([layer]).settings.model_copy(update={"auth_key": None})
    assert thawed(tmp_path, frozen) == direct


def test_what_is_no_secret_stays(tmp_path: Path) -> None:
    """A place without a password, and fields that only sound like a secret, are kept with the rest."""
    environ = {
        "ASGIPIPE_STORE_URL": "postgresql://ada@db.example/jobs",
        "ASGIPIPE_GENERATE_AUTH_KEY": "true",
        "ASGIPIPE_CORS": '{"allow_credentials": "true", "allow_origins": ["https://a.example"]}',
    }
    layer = environment_layer(environ)
    frozen = freeze([layer], NOTHING, environ)
    assert not frozen.secrets
    assert thawed(tmp_path, frozen) == resolve([layer]).settings


PIPELINE: dict[str, object] = {
    "name": "other",
    "blocking": False,
    "on_init": "shop.hooks:start",
    "on_init_kwargs": {"a": [1, 2.5, None]},
    "on_cleanup": None,
    "on_cleanup_kwargs": {},
    "input_model": "shop.models:Input",
    "output_model": "shop.models.Output",
}


@pytest.mark.parametrize("name", PIPELINE)
def test_options_of_the_pipeline(name: str, tmp_path: Path) -> None:
    """Every option of the pipeline that was given is given again, and no other."""
    assert PIPELINE.keys() == PipelineSection.model_fields.keys()
    section = written(tmp_path, json.dumps({"pipeline": {name: PIPELINE[name]}})).pipeline
    frozen = freeze([], section, {})
    again = written(tmp_path, settings_text(frozen.settings)).pipeline
    assert again == section
    assert again.model_fields_set == section.model_fields_set == {name}


@hypothesis_settings(max_examples=50)
@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_any_value_is_read_as_it_was_written(values: dict[str, object]) -> None:
    """Whatever JSON can say, the text of a settings file says, for the YAML reader and for JSON's."""
    text = settings_text(values)
    assert read(text).value == json.loads(text) == values


@pytest.mark.parametrize(
    "title",
    ["null", "~", "1e3", "true", "- a", "a: b #c", "'\"\\", "\t\n\r\n  x", "\x7f\x85\u2028\u2029\ufeff", "😀", "\x00"],
)
def test_texts_that_yaml_would_read_otherwise(title: str, tmp_path: Path) -> None:
    """A text stays the text it is, whatever it means in YAML without quotes."""
    layer = Layer("code", {"app_title": title})
    assert thawed(tmp_path, freeze([layer], NOTHING, {})).app_title == title


def deep(levels: int) -> object:
    return {"x": deep(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("inf"), "JSON compliant"),
        (float("nan"), "JSON compliant"),
        ("\ud800", ""),
        (deep(40), "nested more than"),
        ({"x" * 300: 1}, "a key has 255 characters at most"),
        ("x" * 2**20, "1024 KiB"),
        ([0] * 20_001, "more than 20000 values"),
    ],
)
@pytest.mark.parametrize("name", ["option", "api_key"])
def test_what_no_file_can_hold(value: object, reason: str, name: str) -> None:
    """It is refused when the snapshot is made, not when it is served."""
    layer = Layer("code", {"app_kwargs": {name: value, "token": "canary"}})
    with pytest.raises(SettingsError, match="cannot be kept in a snapshot") as refused:
        freeze([layer], NOTHING, {})
    assert reason in str(refused.value)
    assert "canary" not in str(refused.value)


def test_layers_are_left_as_they_are() -> None:
    """Freezing changes nothing about what it freezes."""
    values = {"auth_key": "k", "cors": {"allow_methods": ["GET"]}}
    layer = Layer("code", values)
    before = json.dumps(values)
    freeze([layer, replace(layer, values={"cors": {"allow_headers": ["x-a"]}})], NOTHING, {})
    assert json.dumps(values) == before
