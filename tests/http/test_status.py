import json
from typing import Any

import pytest

from asgipipe import AppExtensionSpec, DeploymentSettings, EndpointSpec, MiddlewareSpec, pipeline
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.runners.base import BaseDeploymentAppRunner
from asgipipe.runners.starlette import StarletteAppRunner
from asgipipe.service.deployment import DeploymentService
from asgipipe.settings import EndpointMethod
from tests.http.wire import Ask, ask, ask_one

CANARY = "canary-5f2c"
MASK = "**********"


def echo(x: int = 1) -> int:
    return x


def status(settings: dict[str, object]) -> dict[str, Any]:
    document: dict[str, Any] = ask_one(echo, Ask("GET", "/status"), settings).json()
    return document


def test_the_settings_in_force() -> None:
    """Every field that is no bag of keyword arguments is shown, with the value that counts."""
    shown = status({"max_concurrency": 7, "cors": {"allow_origins": ["https://a.example"]}})
    assert shown["deployment"]["name"] == "echo"
    assert shown["deployment"]["auth_enabled"] is False
    settings = shown["settings"]
    assert settings["max_concurrency"] == 7
    assert settings["cors"]["allow_origins"] == ["https://a.example"]
    assert set(settings) == {name for name in DeploymentSettings.model_fields if not name.endswith("_kwargs")}


@pytest.mark.parametrize("key", ["of-mine", ["of-mine", "second"]])
def test_keys_are_masked(key: str | list[str]) -> None:
    """That there is a key is shown, and how many; never which."""
    right = (b"authorization", b"Bearer of-mine")
    reply = ask_one(echo, Ask("GET", "/status", [right]), {"auth_key": key})
    assert reply.json()["settings"]["auth_key"] == (MASK if isinstance(key, str) else [MASK, MASK])
    assert reply.json()["deployment"]["auth_enabled"] is True


class Service(DeploymentService):
    def __init__(self, *args: Any, secret: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Runner(StarletteAppRunner):
    def __init__(self, *args: Any, secret: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Middleware:
    def __init__(self, app: ASGIApp, secret: str) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Endpoint:
    def __init__(self, app_runner: BaseDeploymentAppRunner, secret: str) -> None: ...

    def __call__(self) -> int:
        return 1


def extend(app_runner: BaseDeploymentAppRunner, secret: str) -> None: ...


def hook(secret: str) -> None: ...


def secretive() -> dict[str, object]:
    """A deployment with a canary in every field that may hold a secret."""
    secret: dict[str, object] = {"secret": CANARY}
    return {
        "auth_key": [CANARY, f"{CANARY}-2"],
        "startup_hook": hook,
        "startup_hook_kwargs": secret,
        "shutdown_hook": hook,
        "shutdown_hook_kwargs": secret,
        "uvicorn_kwargs": {"ssl_keyfile_password": CANARY},
        "deployment_app_runner_flavor": Runner,
        "deployment_app_runner_kwargs": secret,
        "deployment_service_class": Service,
        "deployment_service_kwargs": secret,
        "custom_endpoints": [
            EndpointSpec(path="/mine", method=EndpointMethod.GET, handler=Endpoint, init_kwargs=secret),
        ],
        "custom_middlewares": [MiddlewareSpec(middleware=Middleware, init_kwargs=secret)],
        "app_extensions": [AppExtensionSpec(extension=extend, extension_kwargs=secret)],
    }


PATHS = [
    "/health",
    "/ready",
    "/info",
    "/metrics",
    "/status",
    "/openapi.json",
    "/docs",
    "/redoc",
    "/",
    "/mine",
    "/nothing",
]


def test_secrets_appear_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """A canary in every secret field is in no answer, for nobody, and in no log record."""
    target = pipeline(
        on_init=hook, on_init_kwargs={"secret": CANARY}, on_cleanup=hook, on_cleanup_kwargs={"secret": CANARY}
    )(echo)
    right = (b"authorization", b"Bearer " + CANARY.encode())
    wrong = (b"authorization", b"Bearer wrong")
    asked = [
        Ask(method, path, headers)
        for path in [*PATHS, "/invoke"]
        for method in ("GET", "POST", "OPTIONS")
        for headers in ([], [wrong], [right])
    ]
    caplog.set_level("DEBUG")
    replies = ask(target, secretive(), *asked)
    assert sum(reply.status == 200 for reply in replies) > len(PATHS)
    for each in replies:
        assert CANARY.encode() not in each.body
        assert CANARY not in str(each.headers)
    assert CANARY not in caplog.text


def test_objects_are_shown_as_import_strings() -> None:
    """What was given as an object reads as what could have been written in YAML."""
    shown = status({"custom_endpoints": [EndpointSpec(path="/mine", method=EndpointMethod.GET, handler=echo)]})
    (spec,) = shown["settings"]["custom_endpoints"]
    assert spec["handler"].endswith("test_status:echo")
    assert "init_kwargs" not in spec


def test_the_document_never_changes() -> None:
    """Two deployments with the same settings answer the same bytes, and so do two requests."""
    first, second = ask(echo, {"max_queue": 3}, Ask("GET", "/status"), Ask("GET", "/status"))
    other = ask_one(echo, Ask("GET", "/status"), {"max_queue": 3})
    assert first.body == second.body == other.body
    assert json.loads(first.body)["settings"]["max_queue"] == 3
