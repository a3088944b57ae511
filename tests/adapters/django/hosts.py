"""Django projects around a deployment: in this process, and as files for real servers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings
from django.urls import URLPattern, URLResolver, path

from asgipipe_django.background import _loops
from asgipipe_django.project import set_up
from tests.conftest import PATIENCE

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]


def own(request: HttpRequest) -> HttpResponse:
    return HttpResponse("of the host")


@contextmanager
def project(*patterns: URLPattern | URLResolver, **settings: object) -> Iterator[ASGIHandler]:
    """An ASGI application of a project with these URL patterns, whose settings hold inside the block."""
    set_up({})
    urlconf = ModuleType("urlconf")
    urlconf.__dict__["urlpatterns"] = [path("own", own), *patterns]
    given: dict[str, object] = {"ROOT_URLCONF": urlconf, "MIDDLEWARE": MIDDLEWARE, "ALLOWED_HOSTS": ["*"], **settings}
    with override_settings(**given):
        try:
            yield get_asgi_application()
        finally:
            stop_background()


def stop_background() -> None:
    """Stop the deployments that requests by WSGI have started, which would run as long as this process does."""
    background = _loops.get(os.getpid())
    while background is not None and background.deployments:
        _, deployment = background.deployments.popitem()
        background.submit(deployment.stop()).result(PATIENCE)


SETTINGS = """
from pathlib import Path

SECRET_KEY = "for tests only"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "shop.urls"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent.parent / "shop.sqlite3"}
}
TIME_ZONE = "Pacific/Auckland"
USE_TZ = True
"""

FLOWS = """
import asyncio
import os
from collections.abc import AsyncIterator

from asgipipe import Deployment, pipeline


def note(text: str) -> None:
    with open(os.environ["TRACE"], "a") as trace:
        trace.write(f"{text} {os.getpid()}\\n")


async def on_init() -> None:
    await asyncio.sleep(0.05)
    note("start")


async def on_cleanup() -> None:
    await asyncio.sleep(0.5)  # longer than servers take to stop by themselves
    note("stop")


@pipeline(on_init=on_init, on_cleanup=on_cleanup)
def weather(city: str = "Rome") -> str:
    from django.contrib.auth.models import User

    return f"{city}: {User.objects.count()} users"


async def slow() -> AsyncIterator[str]:
    yield "first\\n"
    while not os.path.exists(os.environ["TRACE"] + "-has-arrived"):
        await asyncio.sleep(0.01)
    yield "second\\n"


def size(body: dict[str, str]) -> int:
    return sum(map(len, body.values()))


deployment = Deployment(
    weather,
    {"custom_endpoints": [
        {"path": "/slow", "method": "GET", "handler": slow},
        {"path": "/size", "method": "POST", "handler": size},
    ]},
    flavor="django",
)
"""

URLS = """
from django.http import HttpResponse
from django.urls import include, path

from asgipipe_django import urls
from shop.flows import deployment, weather

urlpatterns = [
    path("own", lambda request: HttpResponse("of the host")),
    path("weather/", include(urls(deployment))),
    path("again/", include(urls(deployment), namespace="again")),
    path("<str:tenant>/other/", include(urls(weather, name="other"))),
]
"""

ASGI = """
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

from django.core.asgi import get_asgi_application

django = get_asgi_application()

from asgipipe_django import mount
from shop.flows import deployment

application = mount(django, {"/mounted": deployment})
included = mount(django)
"""

WSGI = """
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
"""

MANAGE = """
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""


def write_project(folder: Path) -> Path:
    """Write a project with a pipeline among its URLs and return its folder."""
    package = folder / "shop"
    package.mkdir()
    files = {"__init__": "", "settings": SETTINGS, "flows": FLOWS, "urls": URLS, "asgi": ASGI, "wsgi": WSGI}
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    (folder / "manage.py").write_text(MANAGE)
    return folder
