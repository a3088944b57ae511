"""A deployment with a secret in every place where one can be set."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgipipe import BaseDeploymentService, pipeline
from asgipipe.runners.base import BaseDeploymentAppRunner
from asgipipe.service.deployment import DeploymentService

CANARY = "canary-5e2d"
KEYS = (f"{CANARY}-auth-key-one", f"{CANARY}-auth-key-two")


def secret(place: str) -> str:
    return f"{CANARY}-{place}"


@asynccontextmanager
async def lifespan(_app: object) -> AsyncIterator[None]:
    yield


def on_init(password: str) -> str:
    return password


def on_cleanup(state: object, password: str) -> None:
    assert state == password.replace("cleanup", "init")


def hook(password: str) -> None:
    assert password


def build(app_runner: BaseDeploymentAppRunner, password: str) -> Any:
    def built() -> bool:
        return password.startswith(CANARY)

    return built


async def guard(app: Any, scope: Any, receive: Any, send: Any, *, password: str) -> None:
    if scope["type"] == "http" and scope["path"] == "/breaks":
        local = password
        raise ValueError(len(local))
    await app(scope, receive, send)


def extend(app_runner: BaseDeploymentAppRunner, password: str) -> None:
    assert password


class Service(DeploymentService):
    def __init__(self, *args: Any, password: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.password = password


assert issubclass(Service, BaseDeploymentService)


@pipeline(
    on_init=on_init,
    on_init_kwargs={"password": secret("on-init")},
    on_cleanup=on_cleanup,
    on_cleanup_kwargs={"password": secret("on-cleanup")},
    settings={
        "auth_key": list(KEYS),
        "startup_hook": hook,
        "startup_hook_kwargs": {"password": secret("startup-hook")},
        "shutdown_hook": hook,
        "shutdown_hook_kwargs": {"password": secret("shutdown-hook")},
        "deployment_service_class": Service,
        "deployment_service_kwargs": {"password": secret("service")},
        "custom_endpoints": [
            {"path": "/built", "method": "GET", "handler": build, "init_kwargs": {"password": secret("endpoint")}}
        ],
        "custom_middlewares": [{"middleware": guard, "init_kwargs": {"password": secret("middleware")}}],
        "app_extensions": [{"extension": extend, "extension_kwargs": {"password": secret("extension")}}],
    },
)
def secretive(number: int = 1) -> int:
    if number < 0:
        raise ValueError("negative")
    return number
