import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from asgipipe.cli.options import GROUPS
from asgipipe.cli.settings import settings
from asgipipe.settings import DeploymentSettings
from asgipipe.settings.fields import Shape, every_field, kind
from tests.settings.samples import COMPANIONS, SAMPLES

CANARY = "canary-7f3a"


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner(env={**environ}).invoke(settings, arguments)


def explained(*arguments: str, **environ: str) -> dict[str, dict[str, object]]:
    result = run("explain", "--json", *arguments, **environ)
    assert result.exit_code == 0, result.output
    found: dict[str, dict[str, object]] = json.loads(result.stdout)
    return found


def variable_of(path: str) -> str:
    return "ASGIPIPE_" + path.upper().replace(".", "__")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "settings:\n  deployment:\n    app_title: Weather\n    auth_key: canary-7f3a\n    uvicorn_port: 1\n"
    )
    return path


def test_groups_hold_every_field() -> None:
    """The help puts each field into exactly one group."""
    names = [name for group in GROUPS.values() for name in group]
    assert sorted(names) == sorted(DeploymentSettings.model_fields)


@pytest.mark.parametrize("path", SAMPLES)
def test_every_field_has_a_flag(path: str) -> None:
    """A flag, or `--set` for what is in a section, gives the same value as the environment, under its own name."""
    text = SAMPLES[path][1]
    flag = f"--{path.replace('_', '-')}"
    if "." in path:
        arguments = ["--set", f"{path}={text}"]
    elif kind(DeploymentSettings.model_fields[path]).shape is Shape.BOOLEAN:
        arguments = [flag if text == "true" else flag.replace("--", "--no-", 1)]
    else:
        arguments = [flag, text]
    companions = {
        f"{name}.{part}" if part else name: one
        for name, value in COMPANIONS.get(path, {}).items()
        for part, one in (value.items() if isinstance(value, dict) else [("", value)])
    }
    beside = {variable_of(name): str(value) for name, value in companions.items()}
    by_flag = explained(*arguments, **beside)
    by_variable = explained(**beside, **{variable_of(path): text})
    assert {name: row["value"] for name, row in by_flag.items()} == {
        name: row["value"] for name, row in by_variable.items()
    }
    changed = {name for name, row in by_flag.items() if row["origin"] != "default"} - set(companions)
    assert changed
    assert all(name.startswith(path) for name in changed)


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        (["--host", "::1"], "uvicorn_host", "::1"),
        (["--port", "9"], "uvicorn_port", 9),
        (["--workers", "2"], "uvicorn_workers", 2),
        (["--reload"], "uvicorn_reload", True),
        (["--runner", "a:B"], "deployment_app_runner_flavor", "a:B"),
    ],
)
def test_short_flags(arguments: list[str], path: str, value: object) -> None:
    """What is given often has a short flag, which is also named as the origin."""
    assert explained(*arguments)[path] == {"value": value, "origin": arguments[0]}


def test_precedence(file: Path) -> None:
    """The command line is above the environment, which is above the file, which is above the default."""
    found = explained("-c", str(file), "--port", "3", ASGIPIPE_UVICORN_PORT="2", ASGIPIPE_LOG_FORMAT="json")
    assert found["uvicorn_port"] == {"value": 3, "origin": "--port"}
    assert found["log_format"] == {"value": "json", "origin": "environment ASGIPIPE_LOG_FORMAT"}
    assert found["app_title"] == {"value": "Weather", "origin": f"{file}:3:5"}
    assert found["uvicorn_host"] == {"value": "127.0.0.1", "origin": "default"}


def test_sections_and_their_fields() -> None:
    """A flag for a section and `--set` inside it go together."""
    found = explained("--cors", '{"allow_methods": ["GET"]}', "--set", "cors.allow_origins=*")
    assert found["cors.allow_methods"] == {"value": ["GET"], "origin": "--cors"}
    assert found["cors.allow_origins"] == {"value": ["*"], "origin": "--set cors.allow_origins"}


def test_table(file: Path) -> None:
    """`explain` prints one line for each setting, with the key hidden and long values cut."""
    result = run("explain", "-c", str(file), "--app-title", "x" * 500)
    lines = result.stdout.splitlines()
    assert len(lines) == 1 + sum(kind(field).shape is not Shape.SECTION for _, field in every_field())
    assert lines[0].split() == ["SETTING", "VALUE", "FROM"]
    assert any(line.split() == ["auth_key", '"**********"', f"{file}:4:5"] for line in lines)
    assert CANARY not in result.output
    assert max(map(len, lines)) < 250


def test_check(file: Path) -> None:
    """Right settings are one line and status 0."""
    result = run("check", "-c", str(file))
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{file}: no mistakes found\n", "")
    assert run("check").stdout == "The settings: no mistakes found\n"


def test_check_finds_mistakes(file: Path) -> None:
    """Wrong settings are status 2 and one line on stderr for each mistake, beginning with its place."""
    file.write_text("settings:\n  deployment:\n    uvicorn_wokers: 1\n    auth_key: [canary-7f3a, '']\n")
    for command in ("check", "explain"):
        result = run(command, "-c", str(file), "--port", "x", "--auth-key", CANARY, ASGIPIPE_X="1")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.splitlines() == [
            "--port: uvicorn_port: expected a whole number",
            f"{file}:3:5: settings.deployment.uvicorn_wokers: unknown field; did you mean uvicorn_workers?",
            "environment ASGIPIPE_X: no such setting",
        ]
    missing = run("check", "-c", "nowhere.yaml")
    assert (missing.exit_code, missing.stderr) == (2, "nowhere.yaml: there is no such file\n")


@pytest.mark.parametrize("arguments", [["--set", CANARY], ["--set", f"auth_key={CANARY}", "--auth-key", CANARY]])
def test_wrong_use_of_set(arguments: list[str]) -> None:
    """`--set` without a value, or for what is given already, is refused without repeating the value."""
    result = run("check", *arguments)
    assert result.exit_code == 2
    assert "--set" in result.stderr or "twice" in result.stderr
    assert CANARY not in result.output


def test_schema() -> None:
    """`schema` prints the JSON Schema of the file."""
    result = run("schema")
    assert result.exit_code == 0
    Draft202012Validator.check_schema(json.loads(result.stdout))


def test_help_is_grouped() -> None:
    """The help shows the flags under the headings of their groups, with descriptions and defaults."""
    text = " ".join(run("check", "--help").stdout.split())
    positions = [text.index(f"{group}:") for group in GROUPS]
    assert positions == sorted(positions)
    assert "--uvicorn-port, --port NUMBER The port to listen on. 0 takes any free one. [default: 8000]" in text
    assert "--reload / --no-uvicorn-reload, --no-reload" in text
    assert "ASGIPIPE_AUTH_KEY" in text
