"""Every setting, given wrong: the place and path are named, the value is not."""

import json
from pathlib import Path

import pytest

from asgipipe.errors import SettingsError, SettingsIssue
from asgipipe.settings import command_line_layer, environment_layer, python_layer, resolve, yaml_file
from asgipipe.settings.environment import environment_name
from asgipipe.settings.fields import Shape, every_field, kind

FIELDS = {".".join(path): field for path, field in every_field()}
CANARY = "canary-7f3a"


def issues(*layers: object) -> list[SettingsIssue]:
    with pytest.raises(SettingsError) as caught:
        resolve(layers)  # type: ignore[arg-type]
    return list(caught.value.issues)


def written(folder: Path, path: str, value: object) -> Path:
    """Write the value at `path` as block YAML, one level of keys on each line."""
    file = folder / "settings.yaml"
    keys = ["settings", "deployment", *path.split(".")]
    lines = [f"{'  ' * depth}{key}:" for depth, key in enumerate(keys)]
    file.write_text("\n".join(lines) + f" {json.dumps(value)}\n")
    return file


@pytest.mark.parametrize("path", FIELDS)
def test_wrong_type(path: str, tmp_path: Path) -> None:
    """A value of the wrong type is refused at its line and column, and no part of it is repeated."""
    shape = kind(FIELDS[path]).shape
    wrong = 7 if shape in (Shape.MAPPING, Shape.SECTION, Shape.LIST, Shape.NAMES) else {CANARY: CANARY}
    file = written(tmp_path, path, wrong)
    (issue,) = issues(yaml_file(file).deployment)
    depth = path.count(".") + 3
    assert issue.place == f"{file}:{depth}:{2 * (depth - 1) + 1}"
    assert issue.path == f"settings.deployment.{path}"
    assert "expected" in issue.message or "a key is text" in issue.message
    assert CANARY not in str(issue)


@pytest.mark.parametrize("path", FIELDS)
def test_null(path: str, tmp_path: Path) -> None:
    """Null is refused where a field has no null."""
    file = written(tmp_path, path, None)
    if kind(FIELDS[path]).nullable:
        resolve([yaml_file(file).deployment])
    else:
        (issue,) = issues(yaml_file(file).deployment)
        assert issue.path == f"settings.deployment.{path}"


@pytest.mark.parametrize("path", FIELDS)
def test_unknown_neighbour(path: str, tmp_path: Path) -> None:
    """A misspelt name is refused at the place of the key, with the right name as the suggestion."""
    name = path.rpartition(".")[2]
    wrong = name[:2] + name[3:]
    file = written(tmp_path, path.removesuffix(name) + wrong, 1)
    (issue,) = issues(yaml_file(file).deployment)
    depth = path.count(".") + 3
    assert issue.place == f"{file}:{depth}:{2 * (depth - 1) + 1}"
    assert issue.message == "unknown field"
    assert issue.suggestion == f"did you mean {name}?"


@pytest.mark.parametrize("path", FIELDS)
def test_unknown_variable(path: str) -> None:
    """A misspelt variable is refused by its name, with the right one as the suggestion."""
    name = environment_name(tuple(path.split(".")))
    wrong = name[:-2] + name[-1]
    (issue,) = issues(environment_layer({wrong: CANARY}))
    assert issue.place == f"environment {wrong}"
    assert issue.suggestion == f"did you mean {name}?"
    assert CANARY not in str(issue)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """Mistakes in every place are reported together, those of the file in the order of its lines."""
    file = tmp_path / "settings.yaml"
    file.write_text(
        """\
settings:
  deployment:
    uvicorn_wokers: 2
    uvicorn_port: 80x
    custom_endpoints:
      - path: /x
        handlr: shop:x
    cors: {allow_orgins: []}
    app_title: a
    app_title: b
pipeline:
  nam: x
snapshot: {}
"""
    )
    found = issues(
        python_layer({"app_titel": "x"}, "decorator"),
        yaml_file(file).deployment,
        environment_layer({"ASGIPIPE_CORS": "{", "ASGIPIPE_X": "1"}),
        command_line_layer({"max_queue": "-1", "cors.x": "1"}),
    )
    assert [str(issue) for issue in found] == [
        "--max-queue: max_queue: must be 0 or more",
        "--set cors.x: cors.x: unknown field; did you mean cors?",
        f"{file}:3:5: settings.deployment.uvicorn_wokers: unknown field; did you mean uvicorn_workers?",
        f"{file}:4:5: settings.deployment.uvicorn_port: expected a whole number",
        f"{file}:6:9: settings.deployment.custom_endpoints.0.handler: required, but not given",
        f"{file}:7:9: settings.deployment.custom_endpoints.0.handlr: unknown field; did you mean handler?",
        f"{file}:8:12: settings.deployment.cors.allow_orgins: unknown field; did you mean allow_origins?",
        f"{file}:10:5: settings.deployment.app_title: written twice; the first one is in line 9",
        f"{file}:12:3: pipeline.nam: unknown field; did you mean name?",
        f"{file}:13:1: snapshot: unknown field",
        "decorator: app_titel: unknown field; did you mean app_title?",
        'environment ASGIPIPE_CORS: cors: expected JSON, an object such as {"name": "value"} (line 1 column 2)',
        "environment ASGIPIPE_X: no such setting",
    ]


@pytest.mark.parametrize("later", ["deployer", "snapshot_name", "callback_url"])
def test_later_features_are_refused(later: str) -> None:
    """A setting whose feature does not exist yet is refused rather than accepted without effect."""
    (issue,) = issues(python_layer({later: {}}, "decorator"))
    assert issue.message == "unknown field"


@pytest.mark.parametrize(
    "key",
    [
        f"{CANARY}\x00",
        f"{CANARY} with spaces",
        f"{CANARY}ü",
        f"{CANARY}\n",
        {CANARY: 1},
        [CANARY, ""],
        [CANARY, f"{CANARY}é"],
        [[CANARY]],
        [{CANARY: CANARY}],
        CANARY * 500,
        [CANARY] * 200,
    ],
    ids=repr,
)
def test_a_wrong_key_is_never_shown(key: object, tmp_path: Path) -> None:
    """A key that is refused appears in no error, whatever its type and wherever it was given."""
    file = written(tmp_path, "auth_key", key)
    text = key if isinstance(key, str) else json.dumps(key)
    for layer in (
        yaml_file(file).deployment,
        python_layer({"auth_key": key}, "decorator"),
        environment_layer({"ASGIPIPE_AUTH_KEY": text.replace("\x00", " ")}),
        command_line_layer({"auth_key": text}),
    ):
        (issue,) = issues(layer)
        assert issue.path.endswith("auth_key")
        assert CANARY not in str(issue) + repr(issue)


@pytest.mark.parametrize(
    "line",
    [
        f"auth_key: *{CANARY}",
        f"auth_key: !{CANARY} x",
        f"auth_key: !e!{CANARY} x",
        f"auth_key: &{CANARY} {{}}",
        f"auth_key: @{CANARY}",
        f"auth_key: `{CANARY}",
        f"auth_key: %{CANARY}: x",
        f"auth_key: [{CANARY}",
        f"auth_key: '{CANARY}",
        f'auth_key: "{CANARY}\\q"',
        f"auth_key: {CANARY}: {CANARY}",
        f"auth_key: {{{CANARY}: 1, {CANARY}: 2}}",
        f"auth_key: |x\n  {CANARY}",
        f"auth_key:\n  {CANARY}:\n    - 1",
        f"auth_key: {CANARY}\x07",
    ],
)
def test_a_key_that_is_no_yaml_is_never_shown(line: str, tmp_path: Path, loader: str) -> None:
    """A key that YAML reads as something else, or as nothing, does not appear in the error."""
    file = tmp_path / "settings.yaml"
    indented = line.replace("\n", "\n    ")
    file.write_text(f"settings:\n  deployment:\n    {indented}\n")
    with pytest.raises(SettingsError) as caught:
        resolve([yaml_file(file).deployment])
    assert f"{file}:" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_key_beside_other_mistakes_is_never_shown(tmp_path: Path) -> None:
    """Errors about other fields, cross-field ones included, do not show a right key either."""
    (first,) = issues(python_layer({"auth_key": CANARY, "uvicorn_port": "x"}, "decorator"))
    (second,) = issues(python_layer({"auth_key": CANARY, "generate_auth_key": True}, "decorator"))
    assert CANARY not in f"{first}{second}"
    assert second.path == "generate_auth_key"


def test_mistakes_are_one_line_each() -> None:
    """A name with line breaks or control characters in it is escaped."""
    found = issues(
        python_layer({"a\nb\x1b[2J": 1}, "decorator"),
        environment_layer({"ASGIPIPE_\nX\x9b": "1"}),
        command_line_layer({"x\ny": "1"}),
    )
    assert len(found) == 3
    assert all(str(issue).isprintable() for issue in found)
