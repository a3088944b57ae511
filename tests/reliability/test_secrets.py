from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.reliability import raw
from tests.reliability.conftest import Serve
from tests.reliability.served.secretive import CANARY, KEYS
from tests.servers.command import Command, command

PATHS = (
    "/",
    "/health",
    "/ready",
    "/info",
    "/metrics",
    "/status",
    "/openapi.json",
    "/docs",
    "/redoc",
    "/built",
    "/breaks",
)
REFUSED = (b"{", b'{"surplus": 1}', b'{"parameters": {"number": "x"}}', b'{"parameters": {"number": -1}}')


def everything_answered(running: Command) -> bytes:
    """Return all that the server answers, with the right key, a wrong one and none."""
    said = b""
    for fields in (
        [],
        [f"Authorization: Bearer {KEYS[0]}"],
        [f"Authorization: Bearer {KEYS[1]}"],
        ["Authorization: no"],
    ):
        for path in PATHS:
            for accept in ("text/html", "application/json", "text/plain", "application/openmetrics-text"):
                answer = raw.ask(running.port, raw.request("GET", path, f"Accept: {accept}", *fields))
                said += repr(answer.headers).encode() + answer.body
        for body in (b"{}", *REFUSED):
            answer = raw.ask(running.port, raw.invoke(body, *fields))
            said += repr(answer.headers).encode() + answer.body
    return said


def command_lines(running: Command) -> str:
    process = psutil.Process(running.process.pid)
    return str([each.cmdline() for each in (process, *process.children(recursive=True))])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_secrets_appear_nowhere(serve: Serve, log_format: str, workers: int) -> None:
    """Row 40: a secret in every field that takes one is in no answer, no line of the log and no process list."""
    arguments = ("--log-level", "debug", "--log-format", log_format, "--workers", workers)
    with serve("secretive.py:secretive", *arguments, ASGIPIPE_APP_TITLE="Weather") as running:
        said = everything_answered(running)
        assert b"Weather" in said
        assert b'"number":-1' in said.replace(b" ", b"")
        assert CANARY.encode() not in said
        assert CANARY not in command_lines(running)
        assert running.stop() == 0
        assert "negative" in running.output
        assert CANARY not in running.output


ENVIRONMENT = {
    "ASGIPIPE_AUTH_KEY": f"{CANARY}-key-of-the-environment",
    "ASGIPIPE_DEPLOYMENT_SERVICE_KWARGS": f'{{"password": "{CANARY}-service"}}',
    "ASGIPIPE_STARTUP_HOOK_KWARGS": f'{{"password": "{CANARY}-startup"}}',
    "ASGIPIPE_APP_KWARGS": f'{{"debug": false, "password": "{CANARY}-app"}}',
    "ASGIPIPE_UVICORN_KWARGS": f'{{"ssl_keyfile_password": "{CANARY}-tls", "ssl_keyfile": "none.pem"}}',
}


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_secrets_that_do_not_fit_are_not_shown_either(tmp_path: Path, name: str) -> None:
    """Row 40: a secret in a setting that is refused, or that breaks the start, is in no message, also with --debug."""
    (tmp_path / "plain.py").write_text("def plain() -> int:\n    return 1\n")
    serve = ("--debug", "serve", "plain.py", "--port", 0)
    arguments = (*serve, "--drain-timeout", "never")
    with command(*arguments, folder=tmp_path, environment=ENVIRONMENT) as running:
        assert running.status() == 2
        assert "drain_timeout" in running.output
        assert CANARY not in running.output
    with command(*serve, folder=tmp_path, environment={name: ENVIRONMENT[name]}) as one:
        with suppress(AssertionError):
            one.until_says("serves on")
            one.stop()
        one.status()
        assert one.output
        assert CANARY not in one.output
