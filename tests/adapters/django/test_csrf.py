"""Requests that pages of other sites make a browser send, to a deployment behind a project's login."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("django")

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.csrf import get_token
from django.test import AsyncClient, Client
from django.urls import include, path

from asgipipe import Deployment
from asgipipe_django import urls
from tests.adapters.django.hosts import MIDDLEWARE, project
from tests.http.wire import SECURE_HEADERS
from tests.runners.extras import hello

JSON = {"content_type": "application/json"}
FORM = {"content_type": "application/x-www-form-urlencoded"}
FILES = {"content_type": "multipart/form-data; boundary=x"}
RUN = json.dumps({"parameters": {"name": "Ada"}})


def log_in(request: HttpRequest) -> HttpResponse:
    request.session["user"] = "ada"
    return HttpResponse(get_token(request))


def login_required(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> HttpResponseBase:
        # Programs come with a password.
        known = request.path == "/login" or "user" in request.session or "HTTP_AUTHORIZATION" in request.META
        return get_response(request) if known else HttpResponse("who are you?", status=401)

    return middleware


def form(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.POST.get("name", "nobody"))


class Browser:
    """Django's client, which checks tokens and keeps cookies, by WSGI or by ASGI."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self._client = client

    def ask(self, method: str, path: str, body: str = "", content_type: str = "", **headers: str) -> Any:
        answered: Any = self._client.generic(method, path, body, content_type=content_type, headers=headers)
        return asyncio.run(answered) if isinstance(self._client, AsyncClient) else answered

    def logged_in(self) -> str:
        """Log in and return the token for forms."""
        token: str = self.ask("GET", "/login").content.decode()
        return token


def included() -> Any:
    native = {"path": "/form", "method": "POST", "handler": form, "native": True}
    return include(urls(Deployment(hello, {"custom_endpoints": [native]}, name="hello", layers=(), flavor="django")))


@pytest.fixture(params=[Client, AsyncClient])
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """One that talks to a project with sessions."""
    session = "django.contrib.sessions.middleware.SessionMiddleware"
    with project(
        path("login", log_in),
        path("w/", included()),
        MIDDLEWARE=[session, *MIDDLEWARE, f"{__name__}.login_required"],
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        DATA_UPLOAD_MAX_MEMORY_SIZE=1000,
    ):
        yield Browser(request.param(enforce_csrf_checks=True))


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/w/invoke", "", {}),
        ("/w/invoke", RUN, {"content_type": "text/plain"}),
        ("/w/invoke", RUN, {"content_type": "text/plain; application/json"}),
        ("/w/form", "name=Eve", FORM),
        ("/w/form", "--x--", FILES),
    ],
)
def test_what_another_site_can_send_is_refused(browser: Browser, path: str, body: str, kind: dict[str, str]) -> None:
    """Nothing runs: the answer is a problem with all our headers, and says what to send."""
    browser.logged_in()
    refused = browser.ask("POST", path, body, **kind, origin="https://evil.example")
    assert (refused.status_code, refused["content-type"]) == (403, "application/problem+json")
    assert "Send JSON" in refused.json()["detail"]
    assert [name for name in SECURE_HEADERS if name.decode() not in refused.headers] == []
    assert browser.ask("GET", "/w/metrics").json()["total_executions"] == 0


def test_a_password_that_the_browser_keeps_is_no_key(browser: Browser) -> None:
    """Browsers add one to requests of other sites, as they do with cookies."""
    basic = f"Basic {b64encode(b'ada:secret').decode()}"
    assert browser.ask("POST", "/w/invoke", authorization=basic).status_code == 403
    assert browser.ask("POST", "/w/invoke", RUN, **JSON, authorization=basic).status_code == 200


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/vnd.x+json"])
def test_json_needs_no_token(browser: Browser, kind: str) -> None:
    """A browser asks first before a page of another site may send it."""
    assert browser.ask("POST", "/w/invoke", RUN, kind).status_code == 401
    browser.logged_in()
    ran = browser.ask("POST", "/w/invoke", RUN, kind)
    assert (ran.status_code, "who" in ran.content.decode()) in [(200, False), (415, False)]


def test_bearer_keys_and_reading_need_no_token(browser: Browser) -> None:
    """Nor do they where cookies come along."""
    browser.logged_in()
    assert browser.ask("POST", "/w/invoke", authorization="Bearer key").status_code == 200
    assert browser.ask("GET", "/w/info").status_code == 200
    assert browser.ask("OPTIONS", "/w/invoke").status_code in (200, 204, 405)


def test_a_programs_request_without_cookies_needs_no_token(browser: Browser) -> None:
    """The project itself decides whether it may come in."""
    assert browser.ask("POST", "/w/invoke").content == b"who are you?"


def test_forms_of_the_project_pass_with_the_token(browser: Browser) -> None:
    """In the form, which is whole when it arrives, or in Django's header."""
    token = browser.logged_in()
    ours = browser.ask("POST", "/w/form", f"name=Ada&csrfmiddlewaretoken={token}", **FORM)
    assert (ours.status_code, ours.content) == (200, b"Ada")
    assert browser.ask("POST", "/w/invoke", **{"x-csrftoken": token}).status_code == 200
    files = '--x\r\ncontent-disposition: form-data; name="name"\r\n\r\nAda\r\n--x--\r\n'
    assert browser.ask("POST", "/w/form", files, **FILES, **{"x-csrftoken": token}).content == b"Ada"
    assert browser.ask("POST", "/w/form", "name=Ada&csrfmiddlewaretoken=other", **FORM).status_code == 403


def test_a_form_beyond_the_projects_limit_is_refused(browser: Browser) -> None:
    """It was read for its token."""
    browser.logged_in()
    refused = browser.ask("POST", "/w/form", f"name={'x' * 2000}", **FORM)
    assert (refused.status_code, refused["content-type"]) == (413, "application/problem+json")
