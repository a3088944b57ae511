"""URL patterns and views of Django's own."""

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.utils.regex_helper import normalize
from django.views.decorators.http import require_safe

from asgipipe import BaseDeploymentAppRunner
from asgipipe_django.application import DjangoApplication
from asgipipe_django.patterns import BELOW
from tests.reliability.served.texts import CLOSED


@require_safe
async def closed(request: HttpRequest, name: str = "") -> HttpResponse:
    return HttpResponse(f"{CLOSED} {request.path} {name}")


def fails(request: HttpRequest) -> HttpResponse:
    raise LookupError(CLOSED)


@require_safe
def opened(request: HttpRequest) -> HttpResponse:
    return HttpResponse("open")


class Passing:
    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await self.get_response(request)
        return response


async def reading(request: HttpRequest) -> HttpResponse:
    """Read all that the framework takes apart."""
    read = [request.POST, request.FILES, request.GET, request.COOKIES, request.headers, request.get_full_path()]
    return HttpResponse(str(len(read)))


def body(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body, content_type="text/plain", headers={"x-host": request.get_host()})


MIDDLEWARE = Passing
READING: list[object] = [reading, body]

ENDPOINTS: list[dict[str, object]] = [
    {"path": "/native-closed", "handler": closed, "native": True},
    {"path": "/native-open", "handler": opened, "native": True, "auth_required": False},
    {"path": "/mount-closed", "handler": [path("", include([path("inside", closed)]))], "native": True},
    {"path": "/mount-open", "handler": [path("inside", opened)], "native": True, "auth_required": False},
    {"path": "/typed-fails", "handler": fails, "method": "GET"},
    {"path": "/native-fails", "handler": fails, "native": True},
    {"path": "/typed-closed/{name}", "handler": closed, "method": "GET"},
    {"path": "/typed-open", "handler": opened, "method": "GET", "auth_required": False},
]


def extend(app_runner: BaseDeploymentAppRunner) -> None:
    app = app_runner.asgi_app
    assert isinstance(app, DjangoApplication)
    app.urlpatterns.insert(0, path("taken", closed))
    app.urlpatterns.append(path("extended", closed))
    app.urlpatterns.append(path("extended/", include([re_path("^(?P<name>[a-z]+)$", closed)])))


def samples(app: object) -> set[str]:
    urlconf = getattr(app, "_urlconf", app)
    return {f"/{one}" for one in _paths(urlconf.urlpatterns)}  # type: ignore[union-attr]  # a host's, or the application


def _paths(patterns: Iterable[URLPattern | URLResolver]) -> Iterable[str]:
    for one in patterns:
        below = _paths(one.url_patterns) if isinstance(one, URLResolver) else [""]
        for rest in list(below):
            for text, names in normalize(one.pattern.regex.pattern):
                yield text % {name: "" if name == BELOW else "x" for name in names} + rest


class Elsewhere(Passing):
    """Has all requests answered by other URLs, as a project with a URL configuration for each host does."""

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        urls = ModuleType("urls")
        urls.__dict__["urlpatterns"] = [re_path("", closed)]
        request.urlconf = urls
        return await super().__call__(request)
