"""What is put to the test: one framework, and what its users would write to embed a deployment in it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import ClassVar

from asgipipe import BaseDeploymentAppRunner, Deployment
from asgipipe.http.types import ASGIApp, Receive, Scope, Send


class Form(StrEnum):
    """How a deployment is served; the value is part of a test's id."""

    STANDALONE = "standalone"
    MOUNT = "mount"
    INCLUDE = "include"
    NESTED = "nested"
    """A mount, two deep, behind a proxy that the server was told about (`root_path`)."""
    NESTED_INCLUDE = "nested-include"

    @property
    def prefix(self) -> str:
        """Where the deployment is."""
        return self.outer + {Form.STANDALONE: "", Form.MOUNT: "/mounted", Form.INCLUDE: "/included"}.get(self, "/inner")

    @property
    def outer(self) -> str:
        """Where the host is."""
        return "/outer" if self in (Form.NESTED, Form.NESTED_INCLUDE) else ""

    @property
    def proxy(self) -> str:
        """What a proxy in front strips off the paths that clients use (`root_path`)."""
        return "/proxy" if self in (Form.NESTED, Form.NESTED_INCLUDE) else ""


class Subject(ABC):
    """One framework under test; an adapter's author writes a subclass.

    Hosts answer `GET /own` with anything, raise at `GET /failing`, and know no other path; what they are made of is the
    framework's ordinary business. `mount` and `include` may be called any number of times in one process.
    """

    flavor: ClassVar[str]
    """The name of the framework, which test ids begin with."""

    runner: ClassVar[str | type[BaseDeploymentAppRunner] | None] = None
    """The app runner where it is not registered as `flavor`."""

    @abstractmethod
    def mount(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        """Return a host with every deployment mounted at its prefix."""

    @abstractmethod
    def include(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        """Return a host with the deployments' routes, native to the framework, below their prefixes."""

    # Pieces that are written for the framework

    @abstractmethod
    def request_handler(self) -> Callable[..., object]:
        """Return a handler that takes the framework's request and answers its body in upper case.

        The answer is the framework's own response, with status 203, `text/plain; charset=utf-8` and `x-kind: native`.
        """

    @abstractmethod
    def native_endpoint(self, path: str) -> object:
        """Return a native object that answers GET, and HEAD as the framework does, at `path` with the text `native`.

        It is given to EndpointSpec with `native=True` and the same path.
        """

    @abstractmethod
    def native_middleware(self) -> object:
        """Return a native middleware that appends the header `x-passed: native` to each answer."""

    @abstractmethod
    def extend(self, app: object) -> None:
        """Add the route `GET /extended`, which answers the text `extended`, to the framework's application.

        Raises TypeError when `app` is not the application object that the framework's users know.
        """


def assembled(subject: Subject, form: Form, deployment: Deployment) -> ASGIApp:
    """Return what a server serves, with the deployment at `form.prefix`."""
    if form is Form.STANDALONE:
        return deployment.asgi_app
    if form is Form.MOUNT:
        return subject.mount({form.prefix: deployment})
    if form is Form.INCLUDE:
        return subject.include({form.prefix: deployment})
    place = subject.mount if form is Form.NESTED else subject.include
    return Nested(place({"/inner": deployment}), form)


class Nested:
    """An application with a host at /outer, behind a proxy."""

    def __init__(self, host: ASGIApp, form: Form) -> None:
        self._host = host
        self._proxy = form.proxy
        self._outer = form.outer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            # As uvicorn's `--root-path` has it, and the ASGI specification: paths are complete.
            scope = {
                **scope,
                "root_path": self._proxy + self._outer,
                "path": self._proxy + scope["path"],
                "raw_path": self._proxy.encode() + scope["raw_path"],
            }
        await self._host(scope, receive, send)
