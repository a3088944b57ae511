"""Django, under test: hosts of one process share its settings, and each has a URLconf of its own."""

from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path
from django.views.decorators.http import require_safe

from asgipipe import Deployment
from asgipipe.http.types import ASGIApp
from asgipipe.testing import Subject

if not settings.configured:
    settings.configure(
        SECRET_KEY="for tests only",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
        USE_TZ=True,
        TIME_ZONE=None,
    )
    django.setup()


async def own(request: HttpRequest) -> HttpResponse:
    return HttpResponse("of the host")


async def failing(request: HttpRequest) -> HttpResponse:
    raise LookupError("of the host")


urlpatterns: list[URLPattern | URLResolver] = [path("own", own), path("failing", failing)]


class Host(ASGIHandler):
    """A Django application with further URL patterns beside those of this module."""

    def __init__(self, *more: URLPattern | URLResolver) -> None:
        super().__init__()
        self._urlconf = ModuleType("urlconf")
        self._urlconf.__dict__["urlpatterns"] = [*urlpatterns, *more]

    def create_request(
        self, scope: dict[str, object], body_file: object
    ) -> tuple[ASGIRequest, None] | tuple[None, HttpResponse]:
        request, refusal = super().create_request(scope, body_file)
        if request is not None:
            request.urlconf = self._urlconf
        return request, refusal


async def shouting(request: HttpRequest) -> HttpResponse:
    return HttpResponse(
        request.body.upper(), status=203, content_type="text/plain; charset=utf-8", headers={"x-kind": "native"}
    )


@require_safe
async def native(request: HttpRequest) -> HttpResponse:
    return HttpResponse("native", content_type="text/plain; charset=utf-8")


async def extended(request: HttpRequest) -> HttpResponse:
    return HttpResponse("extended", content_type="text/plain; charset=utf-8")


GetResponse = Callable[[HttpRequest], Awaitable[HttpResponse]]


class TaggingMiddleware:
    async_capable = True
    sync_capable = False

    def __init__(self, get_response: GetResponse) -> None:
        from asgiref.sync import markcoroutinefunction

        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        response = await self.get_response(request)
        passed = response.headers.get("x-passed")
        # A response of Django's holds one line of each header.
        response.headers["x-passed"] = f"{passed}, native" if passed else "native"
        return response


class DjangoSubject(Subject):
    flavor = "django"

    def mount(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        from asgipipe_django import mount

        return mount(Host(), deployments)

    def include(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        from asgipipe_django import urls

        return Host(
            *(path(f"{prefix.strip('/')}/", include(urls(deployment))) for prefix, deployment in deployments.items())
        )

    def request_handler(self) -> Callable[..., object]:
        return shouting

    def native_endpoint(self, path: str) -> object:
        return native

    def native_middleware(self) -> object:
        return TaggingMiddleware

    def extend(self, app: object) -> None:
        if not isinstance(app, ASGIHandler):
            raise TypeError(f"this is no Django: {app!r}")
        app.urlpatterns.append(path("extended", extended))
