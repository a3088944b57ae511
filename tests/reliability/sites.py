"""The deployment of `served/guarded.py` in process, with every app runner: standalone, mounted and included."""

import asyncio
import importlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast
from urllib.parse import unquote

import pytest

from asgipipe import Deployment
from asgipipe.http.types import ASGIApp
from asgipipe.testing import Subject
from asgipipe.testing.lifespan import running
from asgipipe.testing.subject import Form, assembled
from tests.http.wire import Ask, Reply, handshake, reply, websocket_scope
from tests.reliability.served.guarded import KEY, natives, settings_of, work

FLAVORS = ("starlette", "fastapi", "django", "quart")
FORMS = (Form.STANDALONE, Form.MOUNT, Form.INCLUDE)
RIGHT = (b"authorization", f"Bearer {KEY}".encode())

Header = tuple[bytes, bytes]


def forms(path: str) -> set[str]:
    """Return other ways to write a path on the wire, and some that come close."""
    rest = path[1:]
    first = rest[:1] or "x"
    return {
        f"{path}/",
        f"/{path}",
        f"//{path}",
        f"{path}//",
        f"/%2f{rest}",
        f"{path}%2f",
        f"{path}%2F..",
        f"{path}%00",
        f"{path}%0A",
        f"{path}%0D%0A",
        f"/%0A{path}",
        f"{path}%20",
        f"{path}.",
        f"{path}.json",
        f"/.{path}",
        f"/..{path}",
        f"/health/..{path}",
        f"/health/%2e%2e{path}",
        f"/mount-open/..{path}",
        f"/mount-open/%2e%2e{path}",
        f"/mount-open/inside/..{path}",
        f"/opened/..{path}",
        f"/opened/..%2f{rest}",
        f"/health;{path}",
        f"{path};/health",
        f"{path};x=y",
        f"/health%3f{path}",
        f"{path}%3f",
        f"{path}%23",
        f"{path}%5c",
        f"/%5c{rest}",
        f"{path}%c0%af",
        f"{path}%EF%BC%8F",
        f"/%{ord(first):02x}{rest[1:]}",
        f"{path}?key={KEY}&_method=GET",
        path.upper(),
    }


@dataclass
class Site:
    """A deployment at `prefix` of an application; `paths` has one for each of its routes, and of the host's there."""

    app: ASGIApp
    deployment: Deployment
    prefix: str
    paths: set[str]

    async def ask(self, method: str, target: str, *headers: Header, body: bytes = b"", **scope: object) -> Reply:
        asked = Ask(method, "", headers, body, scope={**self._place(target), **scope})
        return await reply(self.app, asked)

    async def handshake(self, target: str, *headers: Header) -> Reply:
        asked = Ask("GET", "", headers, scope=self._place(target))
        return await handshake(self.app, websocket_scope(asked, extensions=["websocket.http.response"]))

    def _place(self, target: str) -> dict[str, object]:
        path, _, query = (self.prefix + target).partition("?")
        return {"raw_path": path.encode(), "path": unquote(path), "query_string": query.encode()}


def subject_of(flavor: str) -> Subject:
    """Return how hosts are made with a framework."""
    module = importlib.import_module(f"tests.conformance.adapters.{flavor}")
    found = next(one for name, one in vars(module).items() if name.endswith("Subject") and one is not Subject)
    return cast(Subject, found())


@asynccontextmanager
async def site(flavor: str, form: Form, *, through: bool = False, **more: object) -> AsyncIterator[Site]:
    """Serve a new deployment; with `through` the framework sees every request."""
    pytest.importorskip(flavor)
    deployment = Deployment(work, settings_of(flavor, through=through, **more), layers=(), name="guarded")
    app = assembled(subject_of(flavor), form, deployment)
    paths = {re.sub(r"\{[^}]*\}", "x", row.path) for row in deployment.app_runner.routes.endpoints}
    paths |= natives(flavor).samples(deployment.app_runner.asgi_app)
    if form is Form.INCLUDE:
        below = natives(flavor).samples(app)
        paths |= {path.removeprefix(form.prefix) for path in below if path.startswith(f"{form.prefix}/")}
    async with running(app):
        made = Site(app, deployment, form.prefix, paths)
        while (await made.ask("GET", "/ready")).status == 503:  # noqa: ASYNC110  # the first one starts it where there are no lifespan events
            await asyncio.sleep(0.001)
        yield made
