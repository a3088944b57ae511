"""Extensions: every kind, and that what they change takes effect."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from starlette.applications import Starlette

from asgipipe import BaseAppExtension, BaseDeploymentAppRunner, Deployment
from asgipipe.errors import DefinitionError
from tests.http.wire import Ask, ask, ask_one, deployed
from tests.runners import extras
from tests.runners.extras import BEARER, KEY, AddRoute, Tagging, add_route, adding, async_extension, hello


def settings(extension: object, kwargs: Mapping[str, object] | None = None, **more: object) -> dict[str, object]:
    return {"app_extensions": [{"extension": extension, "extension_kwargs": kwargs or {}}], **more}


class Bound:
    def extend(self, app_runner: BaseDeploymentAppRunner) -> None:
        add_route(app_runner)


class Installer:
    def __call__(self, app_runner: BaseDeploymentAppRunner, path: str = "/added") -> None:
        add_route(app_runner, path)


class DuckTyped:
    """No subclass of ours, but it has `install`."""

    def install(self, app_runner: BaseDeploymentAppRunner) -> None:
        add_route(app_runner)


@pytest.mark.parametrize(
    "extension",
    [
        add_route,
        AddRoute,
        AddRoute(),
        Bound().extend,
        Installer(),
        DuckTyped,
        DuckTyped(),
        functools.partial(add_route, path="/added"),
        "tests.runners.extras:add_route",
        "tests.runners.extras.AddRoute",
        "tests.runners.extras:adding",
    ],
)
def test_every_kind_of_extension_is_installed(extension: object) -> None:
    """Functions, methods, objects, classes, instances, and import strings of them."""
    assert ask_one(hello, Ask(path="/added"), settings(extension)).body == b"GET /added"


@pytest.mark.parametrize("extension", [add_route, AddRoute, Installer(), "tests.runners.extras:AddRoute"])
def test_arguments_reach_the_extension(extension: object) -> None:
    """`extension_kwargs` go to the function, or to the constructor of the class."""
    assert ask_one(hello, Ask(path="/elsewhere"), settings(extension, {"path": "/elsewhere"})).status == 200


def test_the_app_runner_shows_the_deployment() -> None:
    """`asgi_app`, `service`, `deployment`, `settings` are there, and the routes are in the application already."""
    seen: list[BaseDeploymentAppRunner] = []
    deployment = Deployment(hello, settings(seen.append, app_title="Mine"), layers=())
    (runner,) = seen
    assert isinstance(runner.asgi_app, Starlette)
    assert runner.service is deployment.service
    assert runner.deployment is deployment.deployment
    assert runner.deployment.pipeline_name == "hello"
    assert runner.settings.app_title == "Mine"
    paths = {getattr(route, "path", None) for route in runner.asgi_app.routes}
    assert {"/invoke", "/health", "/openapi.json", "/docs"} <= paths


def adding_middleware(app_runner: Any) -> None:
    app_runner.asgi_app.add_middleware(Tagging, tag="extension")


def test_middleware_that_an_extension_adds_sees_every_request() -> None:
    """Built-in endpoints too: with an extension nothing is answered around the framework."""
    asked = [Ask(path="/info"), Ask(path="/health"), Ask(path="/"), Ask(path="/nowhere"), Ask(path="/docs")]
    for reply in ask(hello, settings(adding_middleware), *asked):
        assert reply.all(b"x-passed") == [b"extension"]


def test_what_an_extension_adds_needs_the_key() -> None:
    """Deny by default: nobody declared the route open."""
    denied, granted = ask(
        hello, settings(adding, auth_key=KEY), Ask(path="/added"), Ask(path="/added", headers=[BEARER])
    )
    assert (denied.status, granted.status) == (401, 200)


def test_extensions_run_in_the_order_of_the_list() -> None:
    """Each once, when the deployment is built."""
    order: list[str] = []
    made = [{"extension": lambda app_runner, name=name: order.append(name)} for name in "abc"]
    deployed(hello, {"app_extensions": made})
    assert order == ["a", "b", "c"]


def test_a_later_start_does_not_run_them_again() -> None:
    """Starting, stopping and requests do not install anything."""
    installed: list[object] = []
    ask(hello, settings(installed.append), Ask(path="/info"), Ask(path="/info"))
    assert len(installed) == 1


class AsyncInstall(BaseAppExtension):
    async def install(self, app_runner: BaseDeploymentAppRunner) -> None:  # type: ignore[override]
        raise AssertionError("never called")


def generator(app_runner: BaseDeploymentAppRunner) -> Iterator[None]:
    yield


def hidden_async(app_runner: BaseDeploymentAppRunner) -> object:
    return async_extension(app_runner)


def failing(app_runner: BaseDeploymentAppRunner) -> None:
    raise LookupError("no such table")


@pytest.mark.parametrize(
    ("extension", "kwargs", "reason"),
    [
        (async_extension, {}, "async_extension is an async function, but an extension is a plain one"),
        (AsyncInstall, {}, "install is an async function"),
        (AsyncInstall(), {}, "install is an async function"),
        (generator, {}, "generator is an generator function"),
        (hidden_async, {}, "hidden_async returned an awaitable"),
        (failing, {}, "raised LookupError: no such table"),
        (add_route, {"pth": "/x"}, "got an unexpected keyword argument 'pth'"),
        (AddRoute, {"pth": "/x"}, "got an unexpected keyword argument 'pth'"),
        (adding, {"path": "/x"}, "it is an instance already"),
        (BaseAppExtension, {}, "raised TypeError"),
        ("tests.runners.extras:KEY", {}, "an extension is a plain function"),
        ("tests.runners.extras:nothing", {}, "has no attribute 'nothing'"),
        (lambda: None, {}, "does not take its arguments"),
    ],
)
def test_what_cannot_be_installed_is_refused(extension: object, kwargs: dict[str, object], reason: str) -> None:
    """When the deployment is built, with a message that names the extension."""
    with pytest.raises(DefinitionError) as refused:
        deployed(hello, settings(extension, kwargs))
    assert str(refused.value).startswith("extension ")
    assert reason in str(refused.value)


def test_an_unnamed_extension_is_named_by_its_class() -> None:
    """An instance appears in the error as its class."""
    with pytest.raises(DefinitionError, match=r"^extension tests\.runners\.extras:AddRoute: "):
        deployed(hello, settings(extras.adding, {"path": "/x"}))
