"""A deployment inside a Django project, in this process."""

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("django")

from django.core.checks import run_checks
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.test import Client
from django.test.utils import override_settings
from django.urls import include, path, reverse

from asgipipe import Deployment
from asgipipe.errors import DefinitionError
from asgipipe_django import mount, urls
from tests.adapters.django.hosts import project
from tests.http.wire import SECURE_HEADERS, Ask, Reply, ask_app, invoke, reply
from tests.runners.extras import BEARER, KEY, hello


def deployment(name: str = "hello", **settings: object) -> Deployment:
    return Deployment(hello, settings, name=name, layers=(), flavor="django")


async def slow_pieces() -> Any:
    for index in range(3):
        yield f"{index}"
        await asyncio.sleep(0)


def asked(app: Any, *asks: Ask) -> list[Reply]:
    async def main() -> list[Reply]:
        return [await reply(app, each) for each in asks]

    return asyncio.run(main())


def test_it_answers_below_its_prefix_with_our_headers_once() -> None:
    """Whatever of them the project's own middleware adds; the deployment's own values are the ones that remain."""
    with project(path("weather/", include(urls(deployment())))) as app:
        replies = asked(
            app,
            invoke({"parameters": {"name": "Ada"}}, path="/weather/invoke"),
            Ask(path="/weather/nowhere"),
            Ask("PUT", "/weather/invoke"),
            Ask("HEAD", "/weather/info"),
            Ask(path="/weather/info/"),
            Ask(path="/own"),
        )
    assert [each.status for each in replies] == [200, 404, 405, 200, 404, 200]
    for each in replies[:5]:
        assert [name for name in SECURE_HEADERS if len(each.all(name)) != 1] == []
        assert each.header(b"referrer-policy") == b"no-referrer"
    assert replies[3].body == b""
    assert replies[5].body == b"of the host"
    assert replies[5].header(b"x-request-id") is None


@pytest.mark.parametrize("script_name", [None, "/forced"])
def test_patterns_have_names_and_namespaces(script_name: str | None) -> None:
    """`reverse` finds them, also where one deployment is included twice, and below FORCE_SCRIPT_NAME."""
    twice = deployment("twice")
    patterns = [
        path("one/", include(urls(twice))),
        path("two/", include(urls(twice), namespace="second")),
        path("<str:tenant>/three/", include(urls(hello, name="three"))),
    ]
    with project(*patterns, FORCE_SCRIPT_NAME=script_name) as app:
        answered = asked(app, Ask(path="/one/info"), Ask(path="/two/info"), Ask(path="/acme/three/info"))
        assert reverse("twice:invoke").endswith("/one/invoke")
        assert reverse("second:openapi").endswith("/two/openapi.json")
        assert reverse("three:health", kwargs={"tenant": "acme"}).endswith("/acme/three/health")
        assert run_checks() == []
    assert [each.json()["deployment"]["name"] for each in answered] == ["twice", "twice", "three"]


def test_the_projects_protection_stands_around_it_and_ours_inside() -> None:
    """A POST needs no CSRF token, the key is asked for, and sync middleware of the project's can refuse."""
    with project(
        path("w/", include(urls(deployment(auth_key=KEY)))), MIDDLEWARE=[*GUARDS, f"{__name__}.guarding"]
    ) as app:
        denied, granted, guarded = asked(
            app,
            invoke({}, path="/w/invoke"),
            invoke({}, BEARER, path="/w/invoke"),
            invoke({}, BEARER, (b"x-guard", b"no"), path="/w/invoke"),
        )
    assert (denied.problem["status"], granted.status, guarded.status) == (401, 200, 402)


GUARDS = ["django.middleware.csrf.CsrfViewMiddleware", "django.middleware.common.CommonMiddleware"]


def guarding(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> HttpResponseBase:
        return HttpResponse("no", status=402) if "x-guard" in request.headers else get_response(request)

    return middleware


def test_a_body_may_be_larger_than_djangos_limit() -> None:
    """Ours is the limit: 413 beyond it."""
    with project(path("w/", include(urls(deployment(max_request_body_size=4_000_000))))) as app:
        large, larger = asked(
            app,
            invoke({"parameters": {"name": "x" * 3_000_000}}, path="/w/invoke"),
            invoke({"parameters": {"name": "x" * 5_000_000}}, path="/w/invoke"),
        )
    assert (large.status, larger.problem["status"]) == (200, 413)


def test_a_stream_comes_in_pieces() -> None:
    """As it is produced, through the project's middleware."""
    made = deployment(custom_endpoints=[{"path": "/slow", "method": "GET", "handler": slow_pieces}])
    with project(path("w/", include(urls(made)))) as app:
        (streamed,) = asked(app, Ask(path="/w/slow"))
    assert [message["body"] for message in streamed.messages[1:] if message.get("body")] == [b"0", b"1", b"2"]


def test_wsgi_serves_it_on_a_loop_in_the_background() -> None:
    """Django's own test client is WSGI: requests share one deployment, and streams are synchronous."""
    made = deployment(custom_endpoints=[{"path": "/slow", "method": "GET", "handler": slow_pieces}])
    with project(path("w/", include(urls(made)))):
        get_wsgi_application()
        client = Client(enforce_csrf_checks=True)
        ran = client.post("/w/invoke", json.dumps({"parameters": {"name": "Ada"}}), content_type="application/json")
        assert ran.json()["outputs"] == {"output": "Hello, Ada!"}
        assert client.get("/w/metrics").json()["total_executions"] == 1
        streamed = client.get("/w/slow")
        assert not streamed.is_async
        assert list(streamed) == [b"0", b"1", b"2"]
        assert client.get("/w/nowhere").status_code == 404
        assert client.head("/w/info").content == b""


def test_mounts_of_an_asgi_application() -> None:
    """They start with the server, answer below their prefixes, and leave everything else to the project."""
    with project() as host:
        app = mount(host, {"/weather": deployment("first", auth_key=KEY), "/weather/second": hello})
        replies = ask_app(
            app,
            Ask(path="/weather/ready"),
            Ask(path="/weather/info"),
            Ask(path="/weather/second/ready"),
            Ask(path="/own"),
            Ask(path="/weathering"),
        )
    assert [each.status for each in replies] == [200, 401, 200, 200, 404]


def test_a_forced_script_name_is_in_front_of_mounts_too() -> None:
    """As Django has it for the project's own paths."""

    def root(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.path)

    made = deployment(custom_endpoints=[{"path": "/root", "method": "GET", "handler": root}])
    with project(FORCE_SCRIPT_NAME="/forced") as host:
        (replied,) = ask_app(mount(host, {"/w": made}), Ask(path="/w/root"))
    assert replied.body == b"/forced/w/root"


def test_what_is_no_prefix_is_refused() -> None:
    """When the application is made."""
    with project() as host, pytest.raises(DefinitionError, match="no place to mount"):
        mount(host, {"weather": hello})


SETTINGS = (
    "TIME_ZONE",
    "LOGGING",
    "LOGGING_CONFIG",
    "DATABASES",
    "MIDDLEWARE",
    "ROOT_URLCONF",
    "INSTALLED_APPS",
    "DEBUG",
)


def test_the_projects_settings_stay_as_they_are() -> None:
    """Nothing is set, and no page of Django's debug mode answers for the deployment."""
    from django.conf import settings

    with project() as host, override_settings(DEBUG=True):
        before = {name: getattr(settings, name) for name in SETTINGS}
        app = mount(host, {"/w": deployment()})
        (unknown,) = ask_app(app, Ask(path="/w/nowhere"))
        assert {name: getattr(settings, name) for name in before} == before
    assert unknown.problem["status"] == 404
