import json
from pathlib import Path

import pytest

from asgipipe.settings import (
    DeploymentSettings,
    Layer,
    command_line_layer,
    environment_layer,
    python_layer,
    resolve,
    yaml_file,
)
from asgipipe.settings.command_line import flag_name
from asgipipe.settings.environment import environment_name
from asgipipe.settings.fields import dotted, every_field
from tests.settings.samples import COMPANIONS, CONVERTED, SAMPLES, nested, with_companions


def file_layer(folder: Path, values: object) -> Layer:
    file = folder / "settings.yaml"
    file.write_text(json.dumps({"settings": {"deployment": values}}))
    return yaml_file(file).deployment


def value_at(settings: object, path: str) -> object:
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


def test_samples_are_complete() -> None:
    """Every field, those of sections included, has a sample that the other tests here use."""
    assert set(SAMPLES) == {dotted(path) for path, _ in every_field()}


@pytest.mark.parametrize("path", SAMPLES)
def test_every_field_four_ways(path: str, tmp_path: Path) -> None:
    """The same value from Python, YAML, environment and command line gives equal settings, with a truthful origin."""
    value, text = SAMPLES[path]
    below = python_layer(COMPANIONS.get(path, {}), "companions")
    parts = tuple(path.split("."))
    python = resolve([below, python_layer(nested(path, value), "decorator")])
    others = [
        resolve([below, file_layer(tmp_path, nested(path, value))]),
        resolve([below, environment_layer({environment_name(parts): text})]),
        resolve([below, command_line_layer({path: text})]),
    ]
    assert all(other.settings == python.settings for other in others)
    assert python.settings != DeploymentSettings()
    origins = [other.origins.get(path) for other in others]
    if path not in ("cors", "secure_headers", "capture"):
        assert origins[0] == f"{tmp_path}/settings.yaml:1:{origins[0].rpartition(':')[2]}"
        assert origins[1:] == [f"environment {environment_name(parts)}", flag_name(parts)]
        assert python.origins[path] == "decorator"


@pytest.mark.parametrize("path", SAMPLES)
def test_every_field_from_a_model(path: str) -> None:
    """Settings made by the constructor are the same as those resolved from a mapping."""
    values = with_companions(path, SAMPLES[path][0])
    made = DeploymentSettings.model_validate(values)
    assert made == resolve([python_layer(values, "decorator")]).settings
    assert made == resolve([python_layer(made, "decorator")]).settings


@pytest.mark.parametrize(("path", "expected"), CONVERTED.items())
def test_values_are_converted(path: str, expected: object) -> None:
    """Names become flags and levels, and a text a number."""
    settings = resolve([environment_layer({environment_name((path,)): SAMPLES[path][1]})]).settings
    assert value_at(settings, path) == expected
    assert type(value_at(settings, path)) is type(expected)
